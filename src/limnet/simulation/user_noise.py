"""Mistakes of the robot user: errors that are overlooked and clicks that land on the wrong side of a border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


class ErrorComponent(NamedTuple):
    """One 26-connected piece of missed or of surplus voxels.

    Attributes:
        where: its bounding box (three slices).
        size: number of voxels.
        region: the piece inside the box, bool.
        positive: True for missed voxels.
    """

    where: tuple[slice, ...]
    size: int
    region: NDArray[np.bool_]
    positive: bool


def largest_errors(truth: NDArray[np.bool_], mask: NDArray[np.bool_], count: int = 1) -> list[ErrorComponent]:
    """The largest error components, largest first; missed voxels win a tie, then the first in array order.

    Args:
        truth: bool (D, H, W).
        mask: bool (D, H, W).
        count: how many at most.
    """
    found = _largest(truth & ~mask, True, count) + _largest(mask & ~truth, False, count)
    return sorted(found, key=lambda c: (-c.size, not c.positive))[:count]


def _largest(error: NDArray[np.bool_], positive: bool, count: int) -> list[ErrorComponent]:
    if not error.any():
        return []
    labels, number = ndimage.label(error, structure=_CONNECTED_26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    best = np.argsort(-sizes, kind="stable")[: min(count, number)]
    boxes = ndimage.find_objects(labels, max_label=int(best.max()))
    return [ErrorComponent(boxes[i - 1], int(sizes[i]), labels[boxes[i - 1]] == i, positive) for i in best]


def beside_border(
    component: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    positive: bool,
    spacing: Sequence[float],
    reach: float,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """A pixel just outside a component, as hit by somebody who aimed inside.

    Args:
        component: what was aimed at, bool (H, W), not empty.
        truth: the object in this slice, bool (H, W).
        positive: sign of the click; pixels whose truth contradicts it are preferred.
        spacing: (y, x) in mm.
        reach: largest distance to the component in mm; one pixel always counts as near.
        rng: source of randomness.

    Returns:
        (row, column), or None where the component fills the slice.
    """
    away = ndimage.distance_transform_edt(~component, sampling=tuple(spacing))
    near = ~component & (away <= max(reach, min(spacing)) * (1 + 1e-9))
    wrong = near & (truth != positive)
    choices = np.argwhere(wrong if wrong.any() else near)
    if not len(choices):
        return None
    row, column = choices[rng.integers(len(choices))]
    return int(row), int(column)
