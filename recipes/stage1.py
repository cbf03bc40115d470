"""Broad pretraining of the interaction network on clips drawn ahead (recipes/make_shards.py).

    python recipes/make_shards.py --data ROOT --out shards
    python recipes/stage1.py --shards shards --steps 3000 --out runs/stage1 --precision bf16-mixed

Stop it at any time: `--resume` goes on from OUT/last.ckpt. OUT/interaction/ holds the averaged network as a model
folder part, written at every checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from limnet.training.launch import add_trainer_arguments, trainer_kwargs


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder with d2_*_image.npy and d2_*_mask.npy")
    parser.add_argument("--pattern", default="d2_*", help="training shards (default: d2_*)")
    parser.add_argument("--validation", default="val2d_*", help="validation shards (default: val2d_*)")
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps (default: 3000)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--validate-every", type=int, default=500, help="steps between validations (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="model folder part (config.json, model.safetensors) to start from")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the prompt half only")
    parser.add_argument("--out", type=Path, default=Path("runs/stage1"))
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.ckpt")
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0 for torch's own choice")
    add_trainer_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    args = build_parser().parse_args(argv)
    import torch
    from lightning import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from limnet.datasets.shards import ShardDataset
    from limnet.interaction.module import InteractionModule
    from limnet.training.callbacks import ExportAverage

    if args.threads:
        torch.set_num_threads(args.threads)
    seed_everything(args.seed, workers=True, verbose=False)
    module = InteractionModule(
        learning_rate=args.learning_rate, max_steps=args.steps, seed=args.seed, freeze_encoder=args.freeze_encoder
    )
    if args.init:
        from limnet.hub.folder import load_component

        state = load_component(args.init, "interaction").state_dict()
        module.network.load_state_dict(state)
        module.average.load_state_dict(state)
    module.to(memory_format=torch.channels_last)
    trainer = Trainer(
        **trainer_kwargs(args),
        max_steps=args.steps,
        logger=CSVLogger(args.out, name="", version=""),
        callbacks=[
            ModelCheckpoint(args.out, save_last=True, every_n_train_steps=250, save_top_k=0),
            ExportAverage(args.out / "interaction", every=250),
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
        ShardDataset(args.shards, args.validation).loader(40, shuffle=False),
        ckpt_path=str(last) if args.resume and last.exists() else None,
    )


if __name__ == "__main__":
    main()
