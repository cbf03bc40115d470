"""From array order to what a radiologist expects to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.image.volume import Volume

Range = tuple[float, float]


class Patient:
    """Turns arrays of one volume to (R, A, S): axes nearest to right, anterior, superior, all increasing that way.

    Attributes:
        spacing: mm along the three shown axes.
    """

    def __init__(self, volume: Volume) -> None:
        matrix = volume.affine_in("RAS")[:3, :3][:, ::-1]  # columns in array order (z, y, x)
        order, signs = _nearest_axes(matrix)
        self._order, self._signs, self._shape = order, signs, volume.shape
        self.spacing = tuple(volume.spacing[a] for a in order)

    def show(self, array: NDArray[Any]) -> NDArray[Any]:
        """Array (D, H, W), colour allowed as a last axis (shown as its mean), in patient order."""
        if array.ndim == 4:
            array = array.mean(axis=3)
        turned = np.transpose(array, self._order)
        return turned[tuple(slice(None, None, int(s)) for s in self._signs)]

    def point(self, zyx: Sequence[int]) -> tuple[int, int, int]:
        """Voxel (z, y, x) in patient order."""
        r, a, s = (
            int(zyx[axis]) if sign > 0 else self._shape[axis] - 1 - int(zyx[axis])
            for axis, sign in zip(self._order, self._signs, strict=True)
        )
        return r, a, s


def window(
    structure: NDArray[np.bool_], steps: Sequence[float], middle: Sequence[int], ratio: float
) -> tuple[Range, Range]:
    """Window of a plane in mm round its structure: 20 mm to spare, at least 90 mm wide, inside the plane if it fits.

    Args:
        structure: (U, V).
        steps: mm per pixel of the two axes.
        middle: pixel to centre on where the structure is not on this plane.
        ratio: height (V) of the window by its width (U).
    """
    centres, halves = [], []
    for a in range(2):
        hits = np.flatnonzero(structure.any(axis=1 - a))
        first, last = (int(hits[0]), int(hits[-1])) if len(hits) else (middle[a], middle[a])
        centres.append((first + last) / 2 * steps[a])
        halves.append((last - first) / 2 * steps[a] + 20)
    width = max(halves[0], halves[1] / ratio, 45.0)
    spans = []
    for a, half in enumerate((width, width * ratio)):
        low, high = -0.5 * steps[a], (structure.shape[a] - 0.5) * steps[a]
        centre = min(max(centres[a], low + half), high - half) if high - low > 2 * half else (low + high) / 2
        spans.append((centre - half, centre + half))
    return spans[0], spans[1]


def _nearest_axes(matrix: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Array axis and sign for each of R, A, S; the strongest match first, so that oblique grids give a permutation."""
    directions = matrix / np.linalg.norm(matrix, axis=0)
    weight = np.abs(directions)
    order, signs = [0, 0, 0], [1, 1, 1]
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(weight)), weight.shape)
        order[world] = int(axis)
        signs[world] = 1 if directions[world, axis] >= 0 else -1
        weight[world, :] = -1
        weight[:, axis] = -1
    return (order[0], order[1], order[2]), (signs[0], signs[1], signs[2])
