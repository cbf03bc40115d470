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
        (top, bottom), (left, right) = (
            (max(low, 0), min(low + extent, pixels))
            for low, extent, pixels in zip(self.bounds[:2], self.bounds[2:], shape, strict=True)
        )
        part = slice(top, bottom), slice(left, right)
        return part, replace(self, top=self.top - top, left=self.left - left)

    def crop(self, array: NDArray[np.float32], edge: bool = True) -> Tensor:
        """Cut out and resample.

        Args:
            array: (C, H, W) or (H, W) float32 slice.
            edge: repeat the border outside the slice (images); otherwise zeros (masks).

        Returns:
            (1, C, size, size) float32.
        """
        rows, columns = array.shape[-2:]
        top, bottom = max(self.top, 0), min(self.top + self.height, rows)
        left, right = max(self.left, 0), min(self.left + self.width, columns)
        part = torch.from_numpy(np.array(array[..., top:bottom, left:right], np.float32))
        part = part[None] if part.ndim == 3 else part[None, None]
        pads = (left - self.left, self.left + self.width - right, top - self.top, self.top + self.height - bottom)
        if any(pads):
            part = functional.pad(part, pads, mode="replicate") if edge else functional.pad(part, pads)
        return functional.interpolate(
            part, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )

    def paste(self, logits: Tensor, onto: NDArray[np.float32]) -> NDArray[np.float32]:
        """Write a window's result into a slice; outside the window the slice stays as it is.

        Args:
            logits: (1, 1, size, size).
            onto: (H, W) float32 probabilities.

        Returns:
            (H, W) float32 probabilities, a new array.
        """
        full = functional.interpolate(logits.float(), (self.height, self.width), mode="bilinear", align_corners=False)
        values = torch.sigmoid(full)[0, 0].cpu().numpy()
        rows, columns = onto.shape
        top, bottom = max(self.top, 0), min(self.top + self.height, rows)
        left, right = max(self.left, 0), min(self.left + self.width, columns)
        result = onto.copy()
        result[top:bottom, left:right] = values[
            top - self.top : bottom - self.top, left - self.left : right - self.left
        ]
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
    """Snapped window in which a box takes about `share` of the side, kept on the slice where it fits.

    Args:
        box: (row0, row1, column0, column1), ends excluded, in slice pixels.
        shape: (H, W) of the slice.
        spacing: in-plane millimetres per pixel.
        size: side of the network input.
        share: aimed at; clamped so that a window never shows less than `SMALLEST` pixels or more than the slice.
    """
    extent = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1])
    return window_of_side(extent / share, ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2), shape, spacing, size)


def window_of_side(
    side: float, centre: tuple[float, float], shape: tuple[int, int], spacing: Sequence[float], size: int
) -> Window:
    """Snapped window of about `side` millimetres around `centre` (row, column)."""
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
