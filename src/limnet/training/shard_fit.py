"""Training on shards: the options and the Trainer that the recipes for interaction and propagation share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from limnet.training.launch import add_trainer_arguments, trainer_kwargs

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


def add_shard_arguments(parser: argparse.ArgumentParser, kind: str, validation: str, batch_size: int, out: str) -> None:
    """Add the options of a training on shards.

    Args:
        parser: of the recipe.
        kind: "d2" or "clip": stem of the training shards.
        validation: "val2d" or "valclip": stem of the validation shards.
        batch_size: default of --batch-size.
        out: default of --out.
    """
    parser.add_argument(
        "--shards", type=Path, required=True, help=f"folder with {kind}_*_image.npy and {kind}_*_mask.npy"
    )
    parser.add_argument("--pattern", default=f"{kind}_*", help=f"training shards (default: {kind}_*)")
    parser.add_argument("--validation", default=f"{validation}_*", help=f"validation shards (default: {validation}_*)")
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps (default: 3000)")
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--validate-every", type=int, default=500, help="steps between validations (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="model folder part (config.json, model.safetensors) to start from")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.ckpt")
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0 for torch's own choice")
    add_trainer_arguments(parser)


def fit_on_shards(module: LightningModule, args: argparse.Namespace, role: str, validation_batch: int) -> None:
    """Train, validate, keep OUT/last.ckpt, and export the averaged network to OUT/<role>.

    Args:
        module: has `network` and `average`.
        args: options of `add_shard_arguments`.
        role: "interaction" or "propagation".
        validation_batch: samples per validation batch.
    """
    import torch
    from lightning import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from limnet.datasets.shards import ShardDataset
    from limnet.training.callbacks import ExportAverage

    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(
        **trainer_kwargs(args),
        max_steps=args.steps,
        logger=CSVLogger(args.out, name="", version=""),
        callbacks=[
            ModelCheckpoint(args.out, save_last=True, every_n_train_steps=250, save_top_k=0),
            ExportAverage(args.out / role, every=250),
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
        ShardDataset(args.shards, args.validation).loader(validation_batch, shuffle=False),
        ckpt_path=str(last) if args.resume and last.exists() else None,
    )


def prepare(args: argparse.Namespace) -> None:
    """Set threads and seeds, before the module is built."""
    import torch
    from lightning import seed_everything

    if args.threads:
        torch.set_num_threads(args.threads)
    seed_everything(args.seed, workers=True, verbose=False)
