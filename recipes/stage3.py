"""The last training of the click network: on the sets of the paper's Table I, or on one data set of your own.

    python recipes/stage3.py --preset paper --mix paper-stage3 --root kits19=PATH --root msd-lung=PATH \\
        --root msd-colon=PATH --init runs/stage2

is the third stage of the paper, with the options of recipes/stage2.py (`--mix paper-stage3 --help`); OUT/interaction/
holds the averaged network.

    python recipes/stage3.py --data folder --root ROOT --init limnet-tiny --out runs/mine

writes OUT/model, which `InteractiveSegmenter.from_pretrained("runs/mine/model")` loads: the fine-tuned network with the
other networks of --init. docs/training-on-your-data.md goes through it step by step.

Without --data it trains a network from nothing on synthetic slices: the smallest training, and the proof that every
launcher works.

    python recipes/stage3.py --devices 2            lightning run recipes/stage3.py --devices 2
    torchrun --nproc_per_node 2 recipes/stage3.py   fabric run recipes/stage3.py --devices 2
    limnet run recipes/stage3.py --devices 2

All of them train the same network on the same samples. Rank 0 writes OUT/result.json and OUT/network.safetensors.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.training.options import add_run_arguments, positive, whole
from limnet.training.train import checkpoint_to_resume, make_trainer, prepare, share_of, train

if TYPE_CHECKING:
    from lightning import LightningDataModule, Trainer
    from torch import nn

SYNTHETIC = "synthetic"
REPEATED: dict[str, Any] = {
    "deterministic": "warn",
    "enable_model_summary": False,
}  # every launcher gives the same weights
DEFAULTS = {  # of training from nothing on synthetic slices, and of fine-tuning
    "steps": (200, 1000),
    "batch_size": (8, 16),
    "size": (96, None),  # fine-tuning: what the network is shown in use
    "learning_rate": (1e-3, 3e-4),
}


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    from limnet.datasets.registry import dataset_names

    names = [SYNTHETIC, *dataset_names()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", help="a stage on a mix of data sets: every other option is one of recipes/stage2.py")
    parser.add_argument("--data", choices=names, default=SYNTHETIC, metavar="NAME", help=", ".join(names))
    parser.add_argument("--root", type=Path, help="folder of the data set")
    parser.add_argument("--channel", type=int, help="which channel of 4-D images (nnunet, decathlon)")
    parser.add_argument("--init", help="model to start from: zoo name or folder (with --data: limnet-tiny)")
    parser.add_argument("--steps", type=whole(1), help="optimiser steps (default: 1000; without --data 200)")
    parser.add_argument("--batch-size", type=whole(1), help="samples per step over all processes (default: 16; 8)")
    parser.add_argument("--size", type=int, help="side of the training windows (default: the network's own; 96)")
    parser.add_argument("--learning-rate", type=positive, help="peak (default: 3e-4; 1e-3)")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the prompt half only: faster, less gain")
    parser.add_argument("--validate-every", type=whole(1), default=200, help="steps between validations (default: 200)")
    parser.add_argument("--workers", type=whole(0), default=0, help="processes that draw samples (default: 0)")
    parser.add_argument("--cache", type=Path, help="folder for decoded volumes (default: the user's cache folder)")
    parser.set_defaults(save_every=100, gradient_clip=1.0, minutes=None)
    parser.add_argument("--smoke", action="store_true", help="two steps on tiny windows, to check the installation")
    add_run_arguments(parser, "runs/stage3")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write the result. Everything before `fit` runs in every process, so nothing there may differ."""
    from limnet.errors import LimnetError

    words = sys.argv[1:] if argv is None else argv
    if any(word == "--mix" or word.startswith("--mix=") for word in words):
        train("interaction", __doc__, "runs/stage3", argv)
        return
    parser = build_parser()
    args = parser.parse_args(argv)
    tuning = args.data != SYNTHETIC or args.init is not None
    for name, values in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, values[tuning])
    if args.smoke:
        args.steps, args.batch_size, args.size = 2, 4, 32
    if args.data != SYNTHETIC and args.root is None:
        parser.error(f"--data {args.data} needs --root, the folder of the data")
    if args.data == SYNTHETIC and args.root is not None:
        parser.error("--root is given without --data; for a folder of images and masks add: --data folder")
    try:
        (fine_tune if tuning else from_nothing)(args)
    except LimnetError as error:
        raise SystemExit(f"stage3: {error}") from error


def fine_tune(args: argparse.Namespace) -> None:
    """Train on a data set, starting from the click network of a model, and write a whole model."""
    from limnet import InteractiveSegmenter
    from limnet.hub.folder import name_of
    from limnet.hub.model import check_target
    from limnet.tasks.interaction import InteractionModule

    start = InteractiveSegmenter.from_pretrained(args.init or "limnet-tiny")
    check_target(args.out / "model")
    network: Any = start.interaction
    args.size = args.size or network.window_size
    prepare(args)
    module = InteractionModule(
        {**network.config, "window_size": args.size},
        network=name_of(type(network))[1],
        learning_rate=args.learning_rate,
        max_steps=args.steps,
        warmup_steps=min(100, args.steps // 10),
        freeze_encoder=args.freeze_encoder,
        seed=args.seed,
    )
    for copy in (module.network, module.average):
        copy.load_state_dict(network.state_dict())
    last = checkpoint_to_resume(args.out, module, "interaction", args.resume)
    trainer = make_trainer(args, "interaction", **REPEATED)
    data = data_module(args, trainer.world_size)
    before = validated(trainer, module, data)
    module.train()  # batch norm learns, too; the Trainer leaves a module in the mode it comes in
    trainer.fit(module, datamodule=data, ckpt_path=last)
    after = validated(trainer, module, data)
    if trainer.is_global_zero:
        tuned = InteractiveSegmenter(module.average, start.propagation, start.quality, start.settings)
        folder = tuned.save_pretrained(args.out / "model", half=True)
        write_result(
            args, trainer, module.network, {"data": args.data, "init": start.name, "before": before, "after": after}
        )
        report(before, after, folder)


def from_nothing(args: argparse.Namespace) -> None:
    """Train a network on synthetic slices."""
    from limnet.tasks.interaction import InteractionModule

    prepare(args)
    trainer = make_trainer(
        args, "", enable_checkpointing=False, limit_val_batches=0, gradient_clip_val=None, **REPEATED
    )
    small = {"widths": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding": 8} if args.smoke else None
    module = InteractionModule(small, learning_rate=args.learning_rate, max_steps=args.steps, seed=args.seed)
    trainer.fit(module, datamodule=data_module(args, trainer.world_size))
    if trainer.is_global_zero:
        write_result(args, trainer, module.network, {})


def data_module(args: argparse.Namespace, processes: int) -> LightningDataModule:
    """The data module of --data; each process gets its share of the batch."""
    share = share_of(args, processes)
    if args.data == SYNTHETIC:
        from limnet.datasets.synthetic import SyntheticDataModule

        return SyntheticDataModule(share, args.size, args.seed, args.batch_size * args.steps, workers=args.workers)

    from limnet.data.module import CaseDataModule
    from limnet.datasets.registry import dataset_class

    chosen: Any = dataset_class(args.data)
    options = {"painted": True} if args.data == "open" else {}
    if args.channel is not None:
        if "channel" not in inspect.signature(chosen).parameters:
            raise SystemExit(f"--channel: data set {args.data} has no channels to choose from; leave it out")
        options["channel"] = args.channel
    return CaseDataModule(
        chosen(args.root, **options),
        batch_size=share,
        samples_per_epoch=args.batch_size * min(args.steps, 100),
        size=args.size,
        workers=args.workers,
        seed=args.seed,
        cache_dir=args.cache,
        val_samples=4 if args.smoke else 64,
    )


def validated(trainer: Trainer, module: Any, data: LightningDataModule) -> dict[str, float]:
    """Dice of the averaged network after some clicks on the held-out cases; empty where none is held out."""
    module.eval()
    found = trainer.validate(module, datamodule=data, verbose=False)
    return {name.removeprefix("val/"): round(float(value), 4) for name, value in (found[0] if found else {}).items()}


def write_result(args: argparse.Namespace, trainer: Trainer, network: nn.Module, more: dict[str, Any]) -> None:
    """Write OUT/network.safetensors, the weights without averaging, and OUT/result.json."""
    import torch
    from safetensors.torch import save_file

    args.out.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    save_file(weights, args.out / "network.safetensors", metadata={"config": json.dumps(network.config)})
    digest = hashlib.sha256(b"".join(v.float().numpy().tobytes() for _, v in sorted(weights.items())))
    result = {
        "world_size": trainer.world_size,
        "steps": trainer.global_step,
        "weights_sha256": digest.hexdigest(),
        "weights_norm": float(sum(v.double().pow(2).sum() for v in weights.values()) ** 0.5),
        "torch": torch.__version__,
        **more,
    }
    (args.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{trainer.global_step} steps on {trainer.world_size} process(es); wrote {args.out / 'result.json'}")


def report(before: dict[str, float], after: dict[str, float], folder: Path) -> None:
    """Say what the training has brought, and how to use it."""
    for name in sorted(set(before) & set(after)):
        if name.startswith("dice_"):
            clicks = name.removeprefix("dice_")
            print(f"held-out slices, Dice after {clicks} click(s): {before[name]:.3f} before, {after[name]:.3f} now")
    if before and after.get("dice_1", 0) <= before.get("dice_1", 0):
        print("not better than the model it started from: label more cases, or train longer (--steps)")
    if not before:
        print("no case with an object is held out, so nothing was measured: two such patients or more are needed")
    print(f'use it: InteractiveSegmenter.from_pretrained("{folder}")')


if __name__ == "__main__":
    main()
