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

from limnet.training.shard_fit import add_shard_arguments, fit_on_shards, prepare

if TYPE_CHECKING:
    from limnet.propagation.module import PropagationModule


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shard_arguments(parser, "clip", "valclip", batch_size=6, out="runs/propagation")
    parser.add_argument("--train-encoder", action="store_true", help="do not freeze the image half")
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
    from limnet.propagation.module import PropagationModule

    prepare(args)
    module = PropagationModule(
        learning_rate=args.learning_rate,
        max_steps=args.steps,
        seed=args.seed,
        freeze_encoder=not args.train_encoder,
        forcing_steps=args.steps // 8,
    )
    if args.init:
        start_from(module, args.init)
    fit_on_shards(module, args, "propagation", validation_batch=16)


if __name__ == "__main__":
    main()
