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

from collections.abc import Sequence

from limnet.training.train import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    train("interaction", __doc__, "runs/stage1", argv)


if __name__ == "__main__":
    main()
