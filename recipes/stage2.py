"""Second stage of the click network: medical images only, from the weights of the first.

    python recipes/make_shards.py --data ROOT --out shards --weights MEDICAL.json --prefix med_
    python recipes/stage2.py --shards shards --pattern 'med_d2_*' --init runs/stage1 --learning-rate 7e-4

    python recipes/stage2.py --preset paper --mix paper-stage2 --root kits19=PATH --init runs/stage1

The options are those of recipes/stage1.py. OUT/interaction/ holds the averaged network. docs/training.md explains.
"""

from __future__ import annotations

from collections.abc import Sequence

from limnet.training.train import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    train("interaction", __doc__, "runs/stage2", argv)


if __name__ == "__main__":
    main()
