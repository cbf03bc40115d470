"""Boxes of several sizes around clicks: peers try them, as nobody tells them how large the object is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.grid import Grid, Range
from benchmarks.core.protocol import Voxel

SCALES = (1.0, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05)
"""Sides of the boxes as shares of the longest side of the volume in mm."""

_THIN = 3  # voxels: boxes thinner than that along an axis are not tried
_FINER = 0.7  # a finer grid must have nodes at most this far apart along some axis, against the one before

Spacing = tuple[float, float, float]


def trial_boxes(
    voxels: Sequence[Voxel], shape: tuple[int, ...], spacing: Spacing
) -> Iterator[tuple[float, tuple[Range, ...]]]:
    """Yield (scale, box) from the whole volume to close around the voxels; equal boxes once.

    Args:
        voxels: what has to lie inside, the positive clicks.
        shape: (D, H, W) of the volume.
        spacing: mm between voxels.
    """
    longest = max(n * s for n, s in zip(shape, spacing, strict=True))
    seen: set[tuple[Range, ...]] = set()
    for scale in SCALES:
        box = box_around(voxels, scale * longest / 2, shape, spacing)
        thin = any(end - start < min(_THIN, n) for (start, end), n in zip(box, shape, strict=True))
        if box not in seen and not (seen and thin):
            seen.add(box)
            yield scale, box


def box_around(voxels: Sequence[Voxel], margin: float, shape: tuple[int, ...], spacing: Spacing) -> tuple[Range, ...]:
    """Box of voxels that reaches `margin` mm beyond all given voxels, within the volume."""
    box = []
    for axis in range(3):
        away = round(margin / spacing[axis])
        low, high = min(v[axis] for v in voxels), max(v[axis] for v in voxels)
        box.append((max(low - away, 0), min(high + away + 1, shape[axis])))
    return tuple(box)


def closer_box(mask: NDArray[np.bool_], grid: Grid, spacing: Spacing, nodes: int) -> tuple[Range, ...] | None:
    """Box around an object found on a grid, for a finer grid of `nodes` nodes; None when that would not be finer.

    Args:
        mask: the object, bool (D, H, W).
        grid: where it was found.
        spacing: mm between voxels.
        nodes: of the finer grid.
    """
    if not mask.any():
        return None
    box: list[Range] = []
    for axis in range(3):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = int(along[0]), int(along[-1]) + 1
        margin = max(0.2 * (high - low), 2 * grid.spacing[axis] / spacing[axis], 2)
        edges = grid.edges[axis]
        box.append((max(int(low - margin), int(edges[0])), min(int(np.ceil(high + margin)), int(edges[-1]))))
    finer = Grid.on(box, spacing, nodes)
    gain = [new / old for new, old in zip(finer.spacing, grid.spacing, strict=True)]
    return tuple(box) if min(gain) < _FINER else None


def faces(grid: Grid, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Outermost nodes on those sides of a grid's box that are not sides of the volume."""
    found = np.zeros(grid.shape, bool)
    for axis, edges in enumerate(grid.edges):
        view = np.moveaxis(found, axis, 0)
        if edges[0] > 0:
            view[0] = True
        if edges[-1] < shape[axis]:
            view[-1] = True
    return found
