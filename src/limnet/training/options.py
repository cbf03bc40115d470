"""Options of the recipes, with defaults from a preset; numbers are checked, so that a wrong one ends in one line."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limnet.errors import InputError
from limnet.hub.folder import TABLE
from limnet.training.presets import PRESETS, SMOKE, preset

LARGEST_SEED = 2**32 - 1
_SHARDS = {"interaction": ("d2_*", "val2d_*"), "propagation": ("clip_*", "valclip_*")}
"""Role -> names of the shards of training and validation."""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for whole numbers from `least` to `most` (None: without end)."""
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text} came; give a whole number {allowed}")
        return value

    return number


def positive(text: str) -> float:
    """A type for numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} came; give a number above 0")
    return value


seed = whole(0, LARGEST_SEED)
"""A type for seeds."""


def recipe_parser(role: str, description: str | None, out: str) -> argparse.ArgumentParser:
    """Parser of the training of a role ("interaction", "propagation" or "quality"); `out` is the default of --out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_arguments(parser, role, out)
    return parser


_NEEDS = {
    **dict.fromkeys(("root", "whole_slices", "samples_per_epoch", "val_samples", "cache"), ("mix",)),
    **dict.fromkeys(("weights", "workers"), ("mix", "live")),
    **dict.fromkeys(("pattern", "validation"), ("shards",)),
    "carried": ("carrier",),
    "prompted": ("prompter",),
    "wandb_project": ("wandb",),
}  # option -> those of which one has to be given with it


def add_recipe_arguments(parser: argparse.ArgumentParser, role: str, out: str) -> None:
    """Add all options of a training of this role; `out` is the default of --out, `parse_recipe` sets the others."""
    group = parser.add_argument_group("training", "defaults come from --preset")
    names = sorted(PRESETS[role])
    group.add_argument("--preset", default="tiny-cpu", choices=names, help="settings to start from (default: tiny-cpu)")
    group.add_argument("--network", choices=sorted(TABLE[role]), help="network to train")
    group.add_argument("--steps", type=whole(1), help="optimiser steps")
    group.add_argument("--batch-size", type=whole(1), help="samples per step over all processes")
    group.add_argument("--learning-rate", type=positive)
    group.add_argument("--gradient-clip", type=float, help="largest gradient norm, 0 for none")
    group.add_argument("--validate-every", type=whole(1), help="steps between validations")
    group.add_argument("--init", help="network to start from: a model folder or its part, a zoo name, a Hub repository")
    group.add_argument("--minutes", type=positive, help="end, with the learning rate, after so many minutes")
    group.add_argument("--save-every", type=whole(1), default=250, help="steps between checkpoints (default: 250)")
    group.add_argument("--smoke", action="store_true", help="three steps of a small network on synthetic data")
    add_run_arguments(parser, out)
    if role == "quality":
        parser.add_argument("--defects", type=Path, nargs="+", help="defect sets for training")
        parser.add_argument("--held", type=Path, nargs="+", help="defect sets for validation")
        parser.add_argument("--workers", type=int, default=0, help="processes that read (default: 0)")
        parser.add_argument("--depth", type=int, choices=(18, 34, 50), help="of ResNetQuality (default: 18)")
        return
    _add_data_arguments(parser, role)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="default: adamw; muon needs fewer steps")
    parser.add_argument(
        "--loss-weights",
        type=float,
        nargs=3,
        metavar=("FOCAL", "DICE", "ENTROPY"),
        help="weights of normalised focal loss, soft Dice and cross-entropy (default: 1 1 .5)",
    )
    (_add_click_arguments if role == "interaction" else _add_clip_arguments)(parser)


def add_run_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what every training has: where it writes, what it logs, where it computes; `out` is the default of --out."""
    group = parser.add_argument_group("run", "OUT/metrics.csv is always written, OUT/images at every validation")
    group.add_argument("--out", type=Path, default=Path(out), help=f"output folder (default: {out})")
    group.add_argument("--resume", action="store_true", help="go on from OUT/last.ckpt")
    group.add_argument("--overwrite", action="store_true", help="train anew where OUT holds a trained network")
    group.add_argument("--seed", type=seed, default=0)
    group.add_argument("--threads", type=whole(0), default=0, help="torch threads, 0 for torch's own choice")
    group.add_argument(
        "--wandb",
        nargs="?",
        const="online",
        choices=("online", "offline"),
        help="log to Weights & Biases too; `--wandb offline` writes to OUT/wandb and needs no network or account",
    )
    group.add_argument("--wandb-project", default="limnet", help="project there (default: limnet)")
    group.add_argument(
        "--images", type=whole(0), default=8, help="slices in the picture of a validation, 0 for none (default: 8)"
    )
    add_trainer_arguments(parser)


def _add_data_arguments(parser: argparse.ArgumentParser, role: str) -> None:
    from limnet.datasets.mixes import MIXES

    shards, held = _SHARDS[role]
    group = parser.add_argument_group(
        "data", "either --shards, or --mix with a --root for each data set you have, or --live"
    )
    group.add_argument("--shards", type=Path, help=f"folder with {shards}_image.npy and {shards}_mask.npy")
    group.add_argument("--pattern", default=shards, help=f"training shards (default: {shards})")
    group.add_argument("--validation", default=held, help=f"validation shards (default: {held})")
    group.add_argument("--mix", choices=sorted(MIXES), help="weighted mix of data sets")
    group.add_argument(
        "--root", action="append", default=[], metavar="NAME=PATH", help="folder of a data set of the mix; repeatable"
    )
    group.add_argument(
        "--live",
        type=Path,
        nargs="+",
        metavar="ROOT",
        help="folders with manifest.json: --workers processes draw clips while the training runs; for accelerators",
    )
    group.add_argument(
        "--weights", type=Path, help="how often groups of open files are drawn, such as recipes/limnet-tiny-data.json"
    )
    group.add_argument("--size", type=int, help="side of the windows in network pixels")
    if role == "propagation":
        group.add_argument("--length", type=int, help="slices of a clip")
    group.add_argument(
        "--whole-slices",
        action=argparse.BooleanOptionalAction,
        help="draw a mix as crops of whole slices, not as windows round one object",
    )
    group.add_argument("--samples-per-epoch", type=int, default=2000, help="draws per epoch of a mix (default: 2000)")
    group.add_argument("--val-samples", type=int, default=64, help="clips of a validation on a mix (default: 64)")
    group.add_argument("--workers", type=int, default=0, help="processes that draw for --mix or --live (default: 0)")
    group.add_argument("--cache", type=Path, help="decoded images of a mix (default: the user's cache folder)")


def _add_click_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--freeze-encoder", action="store_true", default=None, help="train the prompt half only")
    add("--clicks", type=int, help="most clicks of a sample (default: 4)")
    add("--carrier", help="propagation network whose carried masks are start masks: a model, its part or a zoo name")
    add("--carried", type=float, default=0.2, help="share of the samples they are (default: .2)")
    started = "share of samples with a mask or box to begin with (default: .65; HRNetOCR: defective masks, .25)"
    add("--started", "--defects", type=float, help=started)
    add("--own", type=float, help="share of samples that begin with the network's own mask (default: .2)")
    add("--corruption", type=float, help="share of the paper's defects of damaged masks (default: .5)")
    erased = "share of samples whose start mask lies on a wrong object (default: .08, HRNetOCR .05; RITM has none)"
    add("--erase", type=float, help=erased)
    literal = "defects of 10 to 30 pixels as the paper prints them, whatever the object's size"
    add("--literal-pixels", action="store_true", default=None, help=literal)


def _add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--prompter", help="click network whose answers are prompt masks: a model, its part or a zoo name")
    add("--prompted", type=float, default=0.5, help="share of the clips they are (default: .5)")
    add("--forcing-steps", type=int, help="steps until true masks are no longer handed on (default: an eighth)")
    add("--train-encoder", action="store_true", help="do not freeze the image half (TinyPropagation)")


def parse_recipe(parser: argparse.ArgumentParser, role: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse options; those that were not given come from --preset, and --smoke makes all of them small.

    The parser has `add_recipe_arguments` of the role. Gives the options, and what follows from them (`settle`).
    """
    use_preset(parser, role, argv)
    args = parser.parse_args(argv)
    for option, needed in _NEEDS.items():
        idle = all(hasattr(args, name) and not getattr(args, name) for name in needed)
        if idle and getattr(args, option, None) != parser.get_default(option):
            words = (name.replace("_", "-") for name in (option, *needed))
            parser.error("--{} has no effect without --{}".format(next(words), " or --".join(words)))
    return settle(args, role)


def use_preset(parser: argparse.ArgumentParser, role: str, argv: Sequence[str] | None) -> None:
    """Take the defaults of a parser (the one that has --preset) from the preset named in `argv`."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="tiny-cpu")
    chosen = first.parse_known_args(argv)[0].preset
    if chosen in PRESETS[role]:
        parser.set_defaults(**{k: v for k, v in vars(preset(role, chosen)).items() if k not in ("network", "config")})


def settle(args: argparse.Namespace, role: str) -> argparse.Namespace:
    """Add what follows from the options, in place.

    Sets `network` where it was not given, `network_given` (whether it was) and `network_config` (arguments of the
    network, None for its own defaults); with --smoke everything becomes small.
    """
    args.network_given = args.network is not None
    settings = preset(role, args.preset)
    args.network = args.network or settings.network
    config = settings.config if args.network == settings.network else {}
    args.network_config = dict(config) or None
    if args.smoke:
        args.steps, args.validate_every, args.batch_size = 3, 3, 4
        args.size, args.length, args.precision = 32, min(args.length, 4), "32-true"
        args.network_config = {**SMOKE[args.network], **config}
        if args.network == "XMem":
            args.size, args.batch_size = 64, 2
    return args


# devices


def add_trainer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to train.

    Under `fabric run` and its kin the launcher reads `--devices`, `--accelerator`, `--strategy`, `--num-nodes` and
    `--precision` wherever they stand; `trainer_kwargs` gets them back from the environment.
    """
    group = parser.add_argument_group("devices")
    group.add_argument("--accelerator", default="auto", help="cpu, gpu, mps or auto (default)")
    group.add_argument("--devices", default="1", help="processes per machine, a list such as 0,1, or auto (default: 1)")
    group.add_argument("--num-nodes", type=int, default=1, help="number of machines (default: 1)")
    group.add_argument(
        "--strategy", default="auto", help="strategy of the Trainer; auto means ddp for several processes"
    )
    group.add_argument("--precision", default="32-true", help="32-true (default), bf16-mixed, 16-mixed")


def trainer_kwargs(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return accelerator, devices, num_nodes, strategy and precision for `lightning.Trainer`.

    They agree with the processes already started, if a launcher started any (it tells by `environ`). Without that, a
    Trainer with `strategy="auto"` on a CPU would train one independent model per process.

    Raises:
        InputError: environment variables of a launcher that contradict each other, or `--devices` that is no number,
            list or "auto".
    """
    env = os.environ if environ is None else environ
    accelerator = env.get("LT_ACCELERATOR", args.accelerator)
    precision = env.get("LT_PRECISION", args.precision)
    strategy = env.get("LT_STRATEGY", args.strategy)
    devices: int | str | list[int]
    if "LOCAL_WORLD_SIZE" in env:
        local, world = _count(env, "LOCAL_WORLD_SIZE"), _count(env, "WORLD_SIZE")
        if world % local:
            raise InputError(
                f"WORLD_SIZE={world} is not a multiple of LOCAL_WORLD_SIZE={local}; "
                "start the same number of processes on each machine"
            )
        devices, nodes, several = local, world // local, world > 1
    else:
        devices, nodes = _devices(str(args.devices)), int(args.num_nodes)
        if accelerator == "cpu" and (devices == -1 or isinstance(devices, list)):
            raise InputError(f"--devices is {args.devices!r}; on the CPU give a number of processes, such as 2")
        several = nodes > 1 or _number(devices, accelerator) > 1
    if strategy == "auto" and several:
        strategy = "ddp"
    return {
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": nodes,
        "strategy": strategy,
        "precision": precision,
    }


def _count(env: Mapping[str, str], name: str) -> int:
    value = env.get(name, "")
    if not value.isdigit() or int(value) < 1:
        raise InputError(
            f"environment variable {name} is {value!r}; a launcher sets it to a number of processes, 1 or more"
        )
    return int(value)


def _number(devices: int | str | list[int], accelerator: str) -> int:
    """How many processes `devices` means on this machine; without a number, one for every CUDA GPU that is used."""
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices >= 0:
        return devices
    if accelerator not in ("auto", "gpu", "cuda"):
        return 1
    import torch

    return torch.cuda.device_count()


def _devices(text: str) -> int | str | list[int]:
    if text in ("auto", "-1"):
        return "auto" if text == "auto" else -1
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] == 0):
        raise InputError(f"--devices is {text!r}; give a number of processes (2), a list (0,1) or auto")
    return numbers if "," in text else numbers[0]
