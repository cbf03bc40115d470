"""Fine-tune an interaction network on synthetic volumes; the smallest recipe, and the proof that every launcher works.

    python recipes/stage3.py --devices 2            lightning run recipes/stage3.py --devices 2
    torchrun --nproc_per_node 2 recipes/stage3.py   fabric run recipes/stage3.py --devices 2
    limnet run recipes/stage3.py --devices 2

All of them train the same network on the same samples; rank 0 writes OUT/result.json and OUT/network.safetensors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from limnet.training.launch import add_trainer_arguments, trainer_kwargs


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps (default: 200)")
    parser.add_argument("--batch-size", type=int, default=8, help="samples per step over all processes (default: 8)")
    parser.add_argument("--size", type=int, default=96, help="side of the training windows in pixels (default: 96)")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/stage3"), help="output folder (default: runs/stage3)")
    parser.add_argument("--smoke", action="store_true", help="two steps on tiny windows, to check the installation")
    add_trainer_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write the result. Everything before `fit` runs in every process, so nothing there may differ."""
    args = build_parser().parse_args(argv)
    if args.smoke:
        args.steps, args.batch_size, args.size = 2, 4, 32

    import torch
    from lightning import Trainer, seed_everything
    from safetensors.torch import save_file

    from limnet.datasets.synthetic import SyntheticDataModule
    from limnet.interaction.module import InteractionModule

    if args.smoke:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
    seed_everything(args.seed, workers=True, verbose=False)
    trainer = Trainer(
        **trainer_kwargs(args),
        max_steps=args.steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=not args.smoke,
        enable_model_summary=not args.smoke,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        deterministic="warn",
    )
    if args.batch_size % trainer.world_size:
        raise SystemExit(f"--batch-size {args.batch_size} does not divide over {trainer.world_size} processes")
    small = {"widths": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding": 8} if args.smoke else None
    module = InteractionModule(small, learning_rate=args.learning_rate, max_steps=args.steps, seed=args.seed)
    data = SyntheticDataModule(
        batch_size=args.batch_size // trainer.world_size,
        size=args.size,
        seed=args.seed,
        length=args.batch_size * args.steps,
    )
    trainer.fit(module, datamodule=data)
    if trainer.is_global_zero:
        args.out.mkdir(parents=True, exist_ok=True)
        weights = {k: v.detach().cpu().contiguous() for k, v in module.network.state_dict().items()}
        save_file(weights, args.out / "network.safetensors", metadata={"config": json.dumps(module.network.config)})
        digest = hashlib.sha256(b"".join(v.float().numpy().tobytes() for _, v in sorted(weights.items())))
        result = {
            "world_size": trainer.world_size,
            "steps": trainer.global_step,
            "weights_sha256": digest.hexdigest(),
            "weights_norm": float(sum(v.double().pow(2).sum() for v in weights.values()) ** 0.5),
            "torch": torch.__version__,
        }
        (args.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        print(f"{trainer.global_step} steps on {trainer.world_size} process(es); wrote {args.out / 'result.json'}")


if __name__ == "__main__":
    main()
