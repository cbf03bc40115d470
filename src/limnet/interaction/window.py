"""Windows: the square part of a slice that a network looks at, sized to the object and following it.

Sides and corners are snapped to a coarse grid, so that small changes of the mask reuse cached image features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

SHARE = 0.38  # the object's larger side as a share of the window
SMALLEST = 20.0  # a window shows at least this many pixels of the finer in-plane axis
_STEP = 1.25  # ratio of neighbouring window sides
_MARGIN = 16  # clicks closer to a window's border than side / 16 are answered worse (limnet bench border)
_GRID = 8  # corners lie on multiples of side / 8
_WIDEST = 8  # no window has more pixels than this many slices beside each other, however unequal the spacing


@dataclass(frozen=True)
class Window:
    """A square (in millimetres) part of a slice, resampled to `size` x `size` network pixels.

    Attributes:
        top, left: first row and column in slice pixels; may lie outside the slice.
        height, width: extent in slice pixels.
        size: side of the network input in pixels.
    """

    top: int
    left: int
    height: int
    width: int
    size: int

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """(top, left, height, width)."""
        return self.top, self.left, self.height, self.width

    def holds(self, box: tuple[int, int, int, int], margin: float = 0.0) -> bool:
        """Whether a pixel box (row0, row1, column0, column1; ends excluded) lies inside, `margin` in window sides."""
        down, right = margin * self.height, margin * self.width
        return (
            box[0] >= self.top + down
            and box[1] <= self.top + self.height - down
            and box[2] >= self.left + right
            and box[3] <= self.left + self.width - right
        )

    def moved_around(self, box: tuple[int, int, int, int]) -> Window:
        """The window moved until a pixel box lies 1/16 of a side inside, over the border of the slice if need be."""
        corner = []
        for low, extent, first, last in zip(self.bounds[:2], self.bounds[2:], box[::2], box[1::2], strict=True):
            margin = extent // _MARGIN
            fits = last - first + 2 * margin <= extent
            corner.append(max(min(low, first - margin), last + margin - extent) if fits else low)
        return replace(self, top=corner[0], left=corner[1])

    def seen(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], Window]:
        """Rows and columns of a slice (H, W) that the window shows, and the window as it lies on that part alone."""
        rows = slice(max(self.top, 0), min(self.top + self.height, shape[0]))
        columns = slice(max(self.left, 0), min(self.left + self.width, shape[1]))
        return (rows, columns), replace(self, top=self.top - rows.start, left=self.left - columns.start)

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) slice coordinates (y, x) to network pixels; pixel centres are integers in both, areas aligned."""
        scale = np.array([self.size / self.height, self.size / self.width])
        return np.asarray((points - (self.top, self.left) + 0.5) * scale - 0.5)

    def crop(self, array: NDArray[np.float32], edge: bool = True) -> Tensor:
        """Cut out of a slice ((C, H, W) or (H, W)) and resample to (1, C, size, size).

        Outside the slice its border is repeated (`edge`, images) or there are zeros (masks).
        """
        (rows, columns), _ = self.seen((array.shape[-2], array.shape[-1]))
        part = torch.from_numpy(np.array(array[..., rows, columns], np.float32))
        part = part[None] if part.ndim == 3 else part[None, None]
        right, bottom = self.left + self.width - columns.stop, self.top + self.height - rows.stop
        pads = (columns.start - self.left, right, rows.start - self.top, bottom)
        if any(pads):
            part = functional.pad(part, pads, mode="replicate") if edge else functional.pad(part, pads)
        return functional.interpolate(
            part, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )

    def paste(self, logits: Tensor, onto: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (1, 1, size, size) as probabilities in a copy of a slice (H, W), which stays outside the window."""
        full = functional.interpolate(logits.float(), (self.height, self.width), mode="bilinear", align_corners=False)
        values = torch.sigmoid(full)[0, 0].cpu().numpy()
        (rows, columns), _ = self.seen((onto.shape[0], onto.shape[1]))
        result, top, left = onto.copy(), self.top, self.left
        result[rows, columns] = values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return result


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Pixel box (row0, row1, column0, column1; ends excluded) of a mask (H, W), None when it is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def join(*boxes: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
    """Smallest box around boxes, None ones left out."""
    found = [b for b in boxes if b is not None]
    if not found:
        return None
    low, high = np.min(found, 0), np.max(found, 0)
    return int(low[0]), int(high[1]), int(low[2]), int(high[3])


def window_around(
    box: tuple[int, int, int, int],
    shape: tuple[int, int],
    spacing: Sequence[float],
    size: int,
    share: float = SHARE,
) -> Window:
    """Snapped window in which a box (ends excluded) takes about `share` of the side, kept on the slice where it fits.

    It never shows less than `SMALLEST` pixels or more than the slice. `spacing` in millimetres per pixel.
    """
    extent = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1])
    return window_of_side(extent / share, ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2), shape, spacing, size)


def window_of_side(
    side: float, centre: tuple[float, float], shape: tuple[int, int], spacing: Sequence[float], size: int
) -> Window:
    """Snapped window of about `side` millimetres around `centre` (row, column), kept on the slice where it fits."""
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    smallest = min(SMALLEST * min(spacing), longest)
    steps = max(0, round(math.log(max(longest / max(side, smallest), 1.0)) / math.log(_STEP)))
    side = max(longest / _STEP**steps, smallest)
    corner, extent = [], []
    for axis in (0, 1):
        pixels = max(4, round(min(side / spacing[axis], _WIDEST * max(shape))))
        unit = max(1, pixels // _GRID)
        low = round((centre[axis] - pixels / 2) / unit) * unit
        low = (shape[axis] - pixels) // 2 if pixels >= shape[axis] else min(max(low, 0), shape[axis] - pixels)
        corner.append(int(low))
        extent.append(int(pixels))
    return Window(corner[0], corner[1], extent[0], extent[1], size)
