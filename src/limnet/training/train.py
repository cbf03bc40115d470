"""One training from its options: the module and the network it starts from, the Trainer, checkpoints, logs, exports.

`--resume` goes on from OUT/last.ckpt, only with the network and the optimizer that it holds.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from limnet.data.module import CaseDataModule, SampleDataModule
from limnet.data.shards import ShardDataset
from limnet.errors import FileFormatError, InputError, LimnetError
from limnet.hub.folder import CONFIG, TABLE, load_component, read_config, resolve
from limnet.training.launch import leave_group_at_exit
from limnet.training.options import parse_recipe, recipe_parser, trainer_kwargs
from limnet.training.presets import TASKS

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.loggers import Logger
    from torch import nn

METRICS, LAST = "metrics.csv", "last.ckpt"
_TRAINED = (LAST, "network.safetensors", *(f"{role}/{CONFIG}" for role in TABLE))
"""What a training leaves in OUT."""
_RENAMED = {"max_minutes": "minutes"}
"""Argument of a module -> option of the recipes, where the two differ."""
_FIXED = {"network": "--network", "optimizer": "--optimizer", "freeze_encoder": "--freeze-encoder"}
"""Argument of a module that decides which parameters an optimizer has -> option of the recipes."""


def train(role: str, description: str | None, out: str, argv: Sequence[str] | None = None) -> None:
    """A whole recipe of a role: parse, train, validate, and write the averaged network to OUT/<role>.

    Options come from `argv`, those of the process by default; `out` is the default of --out. Everything the user can
    mend ends in one line (SystemExit).
    """
    parser = recipe_parser(role, description, out)
    train_parsed(parse_recipe(parser, role, argv), role, parser.prog)


def train_parsed(args: argparse.Namespace, role: str, prog: str) -> None:
    """`train` with options that are parsed already; `prog` begins messages."""
    modules = {"interaction": _interaction, "propagation": _propagation, "quality": _quality}
    try:
        prepare(args)
        fit(args, role, modules[role](args), lambda processes: make_data(args, role, processes))
    except LimnetError as error:
        raise SystemExit(f"{prog}: {error}") from error


def _interaction(args: argparse.Namespace) -> Any:
    names = ("freeze_encoder", "optimizer", "loss_weights", "clicks", "started", "own", "corruption", "erase")
    options = {name: getattr(args, name) for name in (*names, "literal_pixels")}
    options |= {"carried": args.carried if args.carrier else None, "max_minutes": args.minutes}
    start = choose_network(args, "interaction", find_part(args.init, "interaction") if args.init else None)
    module = make_module(args, "interaction", options, start)
    if args.carrier:
        module.start_from(load_component(find_part(args.carrier, "propagation"), "propagation"))
    return module


def _propagation(args: argparse.Namespace) -> Any:
    """`--init` names a propagation network, or an interaction network whose halves are taken over."""
    folder = find_part(args.init, "propagation") if args.init else None
    interaction = None
    if folder is not None and not (folder / CONFIG).is_file():  # OUT of stage1 holds an interaction network alone
        folder = folder.with_name("interaction")
    if folder is not None and role_of(folder) != "propagation":
        interaction, folder = load_component(folder, "interaction"), None
    start = choose_network(args, "propagation", folder)
    options = {"loss_weights": args.loss_weights, "optimizer": args.optimizer, "max_minutes": args.minutes}
    options["prompted"] = args.prompted if args.prompter else None
    if args.network == "TinyPropagation":
        forcing = args.steps // 8 if args.forcing_steps is None else args.forcing_steps
        options |= {"freeze_encoder": not args.train_encoder, "forcing_steps": forcing}
    elif args.train_encoder or args.forcing_steps is not None:
        raise InputError(f"--train-encoder and --forcing-steps are for TinyPropagation, not for {args.network}")
    module = make_module(args, "propagation", options, start)
    if args.prompter:
        module.prompt_by(load_component(find_part(args.prompter, "interaction"), "interaction"))
    if interaction is not None:
        from limnet.tasks.warm_start import warm_start

        for network in (module.network, module.average):
            warm_start(network, interaction)  # type: ignore[arg-type]
    return module


def _quality(args: argparse.Namespace) -> Any:
    """`--depth` says how deep the ResNet is; a network that is started from keeps its own."""
    if not (args.defects and args.held):
        raise InputError(
            "give --defects and --held, files that `quality.py collect` wrote, those of --held with --split val"
        )
    start = choose_network(args, "quality", find_part(args.init, "quality") if args.init else None)
    if args.depth is not None:
        if args.network != "ResNetQuality":
            raise InputError(
                f"--depth {args.depth}: {args.network} has no depth; add --network ResNetQuality, or leave it out"
            )
        config = args.network_config or {}
        if start is not None and config["depth"] != args.depth:
            raise InputError(f"--init holds a ResNet-{config['depth']}, --depth is {args.depth}; leave one of them out")
        args.network_config = {**config, "depth": args.depth}
    return make_module(args, "quality", {"max_minutes": args.minutes}, start)


def prepare(args: argparse.Namespace) -> None:
    """Set threads and seeds, before the module is built; a smoke run is quiet, several processes end in order.

    InputError if OUT holds a training already, and neither --resume nor --overwrite is given.
    """
    from lightning import seed_everything

    check_out(args.out, args.resume, args.overwrite)
    leave_group_at_exit()
    if args.smoke:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
    if args.threads:
        torch.set_num_threads(args.threads)
    seed_everything(args.seed, workers=True, verbose=False)


def fit(
    args: argparse.Namespace, role: str, module: LightningModule, data: Callable[[int], LightningDataModule]
) -> None:
    """Train, validate, keep OUT/last.ckpt, and export the averaged network to OUT/<role>.

    `data` makes the data module for a number of processes.
    """
    from lightning.pytorch.utilities.rank_zero import rank_zero_info

    last = checkpoint_to_resume(args.out, module, role, args.resume)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = make_trainer(args, role)
    trainer.fit(module, datamodule=data(trainer.world_size), ckpt_path=last)
    rank_zero_info(f"wrote {args.out / role}")


def make_trainer(args: argparse.Namespace, role: str, **own: Any) -> Trainer:
    """The Trainer of a recipe, with further or other arguments of its own.

    It exports the network of a role, with checkpoints, to OUT/<role>; "" for neither.
    """
    from lightning import Trainer
    from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint

    from limnet.training.callbacks import EndAfter, ExportAverage, LogImages, StepProgress

    every = min(args.save_every, args.steps)
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if role:
        kept = {"save_last": True, "every_n_train_steps": every, "save_top_k": 0, "enable_version_counter": False}
        callbacks += [ModelCheckpoint(args.out, **kept), ExportAverage(args.out / role, every=every)]
        callbacks += [LogImages(args.out / "images", args.images)] if args.images else []
    callbacks += [] if args.smoke else [StepProgress(args.steps, args.minutes)]
    callbacks += [] if args.minutes is None else [EndAfter(args.minutes)]
    settings = {
        "max_steps": args.steps,
        "logger": make_loggers(args),
        "callbacks": callbacks,
        "gradient_clip_val": args.gradient_clip or None,
        "val_check_interval": min(args.validate_every, args.steps),
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": min(25, args.steps),
        "enable_progress_bar": False,
        "enable_model_summary": not args.smoke,
    }
    return Trainer(**trainer_kwargs(args), **{**settings, **own})


def make_loggers(args: argparse.Namespace) -> list[Logger]:
    """Loggers for the Trainer; wandb is imported only if it was asked for, and InputError tells where it is missing.

    A training that is resumed keeps the metrics before: they move to OUT/metrics.1.csv, .2 and so on.
    """
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from lightning.pytorch.loggers import CSVLogger, WandbLogger

    if args.resume:
        rank_zero_only(keep_metrics)(args.out)
    loggers: list[Logger] = [CSVLogger(args.out, name="", version="")]
    if args.wandb:
        args.out.mkdir(parents=True, exist_ok=True)
        own = {"project": args.wandb_project, "name": args.out.name, "save_dir": args.out}
        try:
            import_module("wandb")
            loggers.append(WandbLogger(**own, offline=args.wandb == "offline"))
        except ModuleNotFoundError as error:
            raise InputError("--wandb needs the wandb package: pip install 'limnet[train]'") from error
    return loggers


def keep_metrics(folder: Path) -> Path | None:
    """Move metrics.csv out of the way, to metrics.1.csv or the next free number; None where there is none."""
    current = folder / METRICS
    if not current.is_file():
        return None
    number = 1
    while (kept := current.with_suffix(f".{number}.csv")).exists():
        number += 1
    return current.rename(kept)


def find_part(name: str, role: str) -> Path:
    """Folder of one network (it holds config.json): `name` itself, or a part of a model folder, zoo or Hub model."""
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return folder
    from limnet.hub.model import locate

    return locate(name) / role


def choose_network(args: argparse.Namespace, role: str, folder: Path | None) -> nn.Module | None:
    """The network in a folder (`find_part`), which is trained then: sets `args.network` and `args.network_config`.

    InputError if --network is another network than the folder's.
    """
    if folder is None:
        return None
    loaded, found = load_component(folder, role), read_config(folder)["class"]
    if args.network_given and found != args.network:
        raise InputError(f"--init holds a {found}, --network is {args.network}; leave one of them out")
    args.network, args.network_config = found, dict(loaded.config)  # type: ignore[arg-type, call-overload]
    return loaded


def make_module(args: argparse.Namespace, role: str, options: Mapping[str, Any], start: nn.Module | None) -> Any:
    """The LightningModule of `args.network`, after `choose_network`.

    `options` are arguments besides those of every recipe, None where the user gave nothing; both copies get the weights
    of `start`.

    Raises:
        InputError: an option that this module does not have.
    """
    module_class, own = task_of(args.network)
    own |= {key: value for key, value in options.items() if value is not None}
    if foreign := sorted(set(own) - module_class.options(own.get("schedule"))):
        words = ", ".join(f"--{_RENAMED.get(name, name).replace('_', '-')}" for name in foreign)
        raise InputError(f"{words}: the training of {args.network} has no such option; leave it out")
    config = args.network_config
    if "window_size" in inspect.signature(resolve(role, args.network)).parameters:
        config = {**(config or {}), "window_size": drawn_size(args)}  # in use it sees windows as large as here
    given = {"network": args.network, "learning_rate": args.learning_rate, "max_steps": args.steps, "seed": args.seed}
    module = module_class(network_config=config, **{**own, **given})
    for copy in (module.network, module.average) if start is not None else ():
        copy.load_state_dict(start.state_dict())  # type: ignore[union-attr]
    return module


def task_of(network: str) -> tuple[Any, dict[str, Any]]:
    """The LightningModule that trains a network, and the arguments with which it does."""
    (place, _, attribute), arguments = TASKS[network][0].partition(":"), TASKS[network][1]
    found = import_module(place)
    return getattr(found, attribute), dict(getattr(found, arguments)) if arguments else {}


def role_of(folder: Path) -> str:
    """Role of the network in a folder."""
    found = read_config(folder)["class"]
    role = next((role for role, known in TABLE.items() if found in known), None)
    if role is None:
        raise InputError(f"{folder} holds a {found}, which limnet does not know")
    return role


def check_out(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse (InputError) to train over an earlier outcome in `folder` without --overwrite, or --resume and LAST."""
    there = [name for name in _TRAINED if (folder / name).exists()]
    if not there or overwrite or (resume and LAST in there):
        return
    way = "go on with --resume, " if LAST in there else ""
    raise InputError(
        f"{folder} holds a trained network already ({', '.join(there)}), which would be lost: {way}"
        "give another --out, or --overwrite"
    )


def checkpoint_to_resume(folder: Path, module: LightningModule, role: str, resume: bool = True) -> Path | None:
    """The checkpoint in `folder` that a module goes on from; None without `resume`, or where there is none yet.

    Raises:
        InputError: a checkpoint of another network, or of other parameters that learn.
        FileFormatError: a damaged checkpoint.
    """
    path = folder / LAST
    if not resume or not path.exists():
        return None
    saved = _read(path)
    before, now = saved["hyper_parameters"], module.hparams
    differs, options = "", "--init, --preset and --network"
    for name, option in _FIXED.items():
        if name in before and name in now and before[name] != now[name]:
            differs = f"was trained with {name} {before[name]}, now it is {now[name]}"
            options = "--train-encoder" if (role, name) == ("propagation", "freeze_encoder") else option
            break
    else:
        sizes = [{k: v.shape for k, v in state.items()} for state in (saved["state_dict"], module.state_dict())]
        if sizes[0] != sizes[1]:
            differs = "holds a network of another size than the one to train"
    if differs:
        raise InputError(
            f"{path} {differs}; --resume goes on with the same options: set {options} as before, or leave --resume out"
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    """Content of a checkpoint; tensors stay in the file."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(saved, dict) and {"hyper_parameters", "state_dict"} <= set(saved):
            return saved
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise FileFormatError(f"{path} cannot be read ({error}); leave --resume out to begin anew") from error
    raise FileFormatError(f"{path} is no checkpoint of a recipe; leave --resume out to begin anew")


def parse_roots(texts: list[str]) -> list[tuple[str, Path]]:
    """["kits19=/data/kits"] to [("kits19", Path("/data/kits"))]."""
    pairs = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError(f"--root is {text!r}; give the data set and its folder, such as kits19=/data/kits19")
        pairs.append((name, Path(path)))
    return pairs


def drawn_size(args: argparse.Namespace) -> int:
    """Side in pixels of the windows that are trained on: of the shards, or --size."""
    if args.shards is None or args.smoke or args.mix is not None or args.live is not None:
        return int(args.size)  # two kinds of data are refused by `make_data`
    return int(ShardDataset(args.shards, args.pattern).images[0].shape[-1])


def share_of(args: argparse.Namespace, processes: int) -> int:
    """Samples of a step for each process; a batch that does not divide is refused."""
    if args.batch_size % processes:
        raise InputError(f"--batch-size {args.batch_size} does not divide over {processes} processes; change one")
    return int(args.batch_size // processes)


def make_data(args: argparse.Namespace, role: str, processes: int) -> LightningDataModule:
    """Data module of a recipe, for a number of processes; InputError for no data, or two kinds of it."""
    share = share_of(args, processes)
    if role == "quality":
        from limnet.data.defects import DefectDataset

        training, held = (DefectDataset(paths, args.seed) for paths in (args.defects, args.held))
        return SampleDataModule(training, held, share, 2 * share, args.workers)
    clips = args.length if role == "propagation" else 1
    if args.smoke:
        from limnet.datasets.synthetic import SyntheticDataModule

        return SyntheticDataModule(share, args.size, args.seed, args.batch_size * args.steps, clips)
    if sum(given is not None for given in (args.shards, args.mix, args.live)) != 1:
        raise InputError("say what to train on: --shards FOLDER, --live FOLDER, or --mix NAME with --root NAME=PATH")
    if args.live is not None:
        from limnet.datasets.open import drawn_data

        samples = args.batch_size * args.steps
        return drawn_data(
            args.live, role, share, samples, args.size, args.length, args.workers, args.seed, args.weights
        )
    if args.shards is not None:
        shards = ShardDataset(args.shards, args.pattern, args.seed), ShardDataset(args.shards, args.validation)
        return SampleDataModule(*shards, share, 40 if role == "interaction" else 16)
    from limnet.datasets.mixes import PAINT, load_mix

    return CaseDataModule(
        load_mix(args.mix, parse_roots(args.root), args.weights),
        task=role,
        batch_size=share,
        samples_per_epoch=args.samples_per_epoch,
        size=args.size,
        length=args.length,
        workers=args.workers,
        seed=args.seed,
        cache_dir=args.cache,
        paint_probability=PAINT.get(args.mix, 0.0),
        val_samples=args.val_samples,
        whole_slices=args.whole_slices,
    )
