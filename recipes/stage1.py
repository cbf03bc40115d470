"""Broad pretraining of the click network.

On slices drawn ahead (recipes/make_shards.py):

    python recipes/make_shards.py --data ROOT --out shards
    python recipes/stage1.py --shards shards --out runs/stage1

or on data sets as their owners ship them, as many of the mix as you have:

    python recipes/stage1.py --preset paper --mix paper-stage1 --root coco-lvis=PATH --root amos22-ct=PATH

Stop it at any time: `--resume` goes on from OUT/last.ckpt. OUT/interaction/ holds the averaged network as a model
folder part, written at every checkpoint; OUT/metrics.csv the figures; OUT/images pictures. docs/training.md explains.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from limnet.training.options import add_interaction_arguments


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_interaction_arguments(parser, out="runs/stage1")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    from limnet.training.train import train_interaction

    train_interaction(build_parser(), argv)


if __name__ == "__main__":
    main()
