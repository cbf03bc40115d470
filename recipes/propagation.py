"""Train the propagation network on clips drawn ahead (recipes/make_shards.py).

    python recipes/propagation.py --shards shards --init runs/stage1/interaction --steps 3000 --precision bf16-mixed

`--init` takes the image half of an interaction network (or a whole propagation network) to start from; frozen, the two
share their cached features. Stop it at any time: `--resume` goes on from OUT/last.ckpt. OUT/propagation/ holds the
averaged network as a model folder part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limnet.training.launch import add_trainer_arguments, trainer_kwargs

if TYPE_CHECKING:
    from limnet.propagation.module import PropagationModule


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder with clip_*_image.npy and clip_*_mask.npy")
    parser.add_argument("--pattern", default="clip_*", help="training shards (default: clip_*)")
    parser.add_argument("--validation", default="valclip_*", help="validation shards (default: valclip_*)")
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps (default: 3000)")
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--train-encoder", action="store_true", help="do not freeze the image half")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--validate-every", type=int, default=500, help="steps between validations (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="model folder part (config.json, model.safetensors) to start from")
    parser.add_argument("--out", type=Path, default=Path("runs/propagation"))
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.ckpt")
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0 for torch's own choice")
    add_trainer_arguments(parser)
    return parser


def start_from(module: PropagationModule, folder: Path) -> None:
    """Load a propagation network, or the image half of an interaction network, into both copies of the weights."""
    from limnet.hub.folder import load_component, read_config

    role = "propagation" if "Propagation" in read_config(folder)["class"] else "interaction"
    loaded = load_component(folder, role)
    for network in (module.network, module.average):
        if role == "propagation":
            network.load_state_dict(loaded.state_dict())
        else:
            network.encoder.load_state_dict(loaded.encoder.state_dict())


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    args = build_parser().parse_args(argv)
    import torch
    from lightning import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from limnet.datasets.shards import ShardDataset
    from limnet.propagation.module import PropagationModule
    from limnet.training.callbacks import ExportAverage

    if args.threads:
        torch.set_num_threads(args.threads)
    seed_everything(args.seed, workers=True, verbose=False)
    module = PropagationModule(
        learning_rate=args.learning_rate,
        max_steps=args.steps,
        seed=args.seed,
        freeze_encoder=not args.train_encoder,
        forcing_steps=args.steps // 8,
    )
    if args.init:
        start_from(module, args.init)
    module.to(memory_format=torch.channels_last)
    trainer = Trainer(
        **trainer_kwargs(args),
        max_steps=args.steps,
        logger=CSVLogger(args.out, name="", version=""),
        callbacks=[
            ModelCheckpoint(args.out, save_last=True, every_n_train_steps=250, save_top_k=0),
            ExportAverage(args.out / "propagation", every=250),
        ],
        gradient_clip_val=1.0,
        val_check_interval=args.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=25,
        enable_progress_bar=False,
    )
    last = args.out / "last.ckpt"
    trainer.fit(
        module,
        ShardDataset(args.shards, args.pattern).loader(args.batch_size, seed=args.seed),
        ShardDataset(args.shards, args.validation).loader(16, shuffle=False),
        ckpt_path=str(last) if args.resume and last.exists() else None,
    )


if __name__ == "__main__":
    main()
