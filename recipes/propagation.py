"""Train the propagation network.

On clips drawn ahead (recipes/make_shards.py), or on data sets as their owners ship them:

    python recipes/propagation.py --shards shards --init runs/stage1/interaction --out runs/propagation
    python recipes/propagation.py --preset paper --mix paper-propagation --root kits19=PATH --init xmem/propagation

`--init` takes a propagation network, or, for the small one, an interaction network, from whose halves it starts
(`limnet.tasks.warm_start`); with its image half frozen, the two share their cached features. Stop it at any time:
`--resume` goes on from OUT/last.ckpt. OUT/propagation/ holds the averaged network as a model folder part.
docs/training.md explains.
"""

from __future__ import annotations

from collections.abc import Sequence

from limnet.training.train import train


def main(argv: Sequence[str] | None = None) -> None:
    """Train, validate, and write the averaged network."""
    train("propagation", __doc__, "runs/propagation", argv)


if __name__ == "__main__":
    main()
