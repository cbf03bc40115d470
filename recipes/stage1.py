"""Broad pretraining of the interaction network on clips drawn ahead (recipes/make_shards.py).

    python recipes/make_shards.py --data ROOT --out shards
    python recipes/stage1.py --shards shards --steps 3000 --out runs/stage1 --precision bf16-mixed

Stop it at any time: `--resume` goes on from OUT/last.ckpt. OUT/interaction/ holds the averaged network as a model
folder part, written at every checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from limnet.training.shard_fit import add_shard_arguments, fit_on_shards, prepare


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shard_arguments(parser, "d2", "val2d", batch_size=16, out="runs/stage1")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the prompt half only")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    args = build_parser().parse_args(argv)
    from limnet.interaction.module import InteractionModule

    prepare(args)
    module = InteractionModule(
        learning_rate=args.learning_rate, max_steps=args.steps, seed=args.seed, freeze_encoder=args.freeze_encoder
    )
    if args.init:
        from limnet.hub.folder import load_component

        state = load_component(args.init, "interaction").state_dict()
        module.network.load_state_dict(state)
        module.average.load_state_dict(state)
    fit_on_shards(module, args, "interaction", validation_batch=40)


if __name__ == "__main__":
    main()
