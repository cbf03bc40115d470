"""Stride along z: thin slices are propagated a few millimetres apart, and those between are interpolated.

A scanner's slices may lie much closer than an object changes. The stride follows the object: a step after which the
mask has changed too much, or that ends the sweep, is done again shorter, down to the next slice; so the ends of an
object are always propagated slice by slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.image.slice_view import SliceView
from limnet.interaction.window import join, mask_box

Slice = NDArray[np.float32]

MOST_CHANGE = 0.15  # 1 - Dice of two propagated slices between which to interpolate
SHARE = 0.125  # of the object's width, as the side of a square of its area, that a step may span


def longest_stride(limit_mm: float, view: SliceView, area: int) -> int:
    """Slices that a step may span from a mask of `area` pixels; 1, every slice, for a limit of 0 mm and for films."""
    if view.volume.is_color:
        return 1
    side = math.sqrt(area * view.spacing[0] * view.spacing[1])
    return max(1, int(min(limit_mm, SHARE * side) / view.gap + 1e-6))


def change(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """1 - Dice of two masks (H, W); 0 for two empty ones."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 1.0 - 2.0 * np.count_nonzero(one & other) / total if total else 0.0


class Stride:
    """How many slices the next step of a sweep spans.

    Args:
        limit_mm: longest distance of two propagated slices; 0 for every slice.
        view: volume along the case's axis.

    Attributes:
        slices: of the next step.
    """

    def __init__(self, limit_mm: float, view: SliceView) -> None:
        self.limit_mm, self.view, self.slices = limit_mm, view, 1

    def start(self, mask: Slice) -> None:
        """Begin at a prompted slice of (H, W) probabilities."""
        self.slices = longest_stride(self.limit_mm, self.view, int(np.count_nonzero(mask > 0.5)))

    def accepts(self, before: Slice, after: Slice, steps: int) -> bool:
        """Whether a step counts; otherwise it is to be done again, of `slices`.

        Args:
            before: (H, W) probabilities of the slice it came from.
            after: those of the slice it went to.
            steps: slices from one to the other.
        """
        longest = longest_stride(self.limit_mm, self.view, int(np.count_nonzero(after > 0.5)))
        if steps == longest == 1:
            return True
        changed = change(before > 0.5, after > 0.5)
        allowed = steps * MOST_CHANGE / max(changed, 1e-6)  # masks change about in proportion to the distance
        far = steps > 1 and changed > MOST_CHANGE
        self.slices = max(1, int(min(allowed, steps // 2 if far else longest)))
        return not far


def spread(indices: Sequence[int], stride: int) -> list[int]:
    """Every `stride`-th of ascending slices, and both ends of each run without gaps."""
    found: list[int] = []
    for position, index in enumerate(indices):
        inner = indices[max(position - 1, 0)] == index - 1 and indices[min(position + 1, len(indices) - 1)] == index + 1
        if not inner or index - found[-1] == stride:
            found.append(index)
    return found


def interpolate(first: Slice, last: Slice, slices: int) -> Iterator[Slice]:
    """Probabilities of the `slices` between two propagated ones, from the first to the last.

    Args:
        first: (H, W) float32 probabilities.
        last: (H, W) float32 probabilities.
        slices: how many lie between them.
    """
    if not slices:
        return
    box = join(mask_box(first > 0), mask_box(last > 0))
    if box is None:
        yield from (np.zeros_like(first) for _ in range(slices))
        return
    part = slice(box[0], box[1]), slice(box[2], box[3])
    step = (last[part] - first[part]) / np.float32(slices + 1)
    for number in range(1, slices + 1):
        between = np.zeros_like(first)
        between[part] = first[part] + number * step
        yield between
