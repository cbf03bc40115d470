"""Masks of slices as closed polygons along the edges of pixels, and polygons as masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ON_LINE = 1e-3  # pixels: a centre this near to an outline lies on it (positions are written to a tenth of a micron)
_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up: each is a right turn of the one before


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed outlines of a mask, exactly along the edges of its pixels.

    Filled by the even-odd rule they give the mask back: rings around holes are outlines of their own. Pixels that touch
    at a corner only are in separate outlines.

    Args:
        mask: (H, W).

    Returns:
        One (N, 2) array of corners (row, column) for each outline; pixel centres are at whole numbers, corners at
        halves. The last corner joins the first, and no corner lies on a straight line.
    """
    padded = np.pad(mask, 1)
    ahead: dict[tuple[int, int], list[int]] = {}  # corner -> directions of the edges that leave it, object on the right
    for direction, (dy, dx) in enumerate(_AHEAD):
        right = padded & ~np.roll(padded, (dx, -dy), axis=(0, 1))  # no object on the left of the edge
        for row, column in zip(*(index.tolist() for index in np.nonzero(right)), strict=True):
            # the corner of this pixel at which a walk around it, object on the right, meets the edge
            corner = (row + (direction in (2, 3)), column + (direction in (1, 2)))
            ahead.setdefault(corner, []).append(direction)
    found = []
    while ahead:
        corner = start = next(iter(ahead))
        direction = ahead[start][0]
        points: list[tuple[int, int]] = []
        turned = -1
        while True:
            leaving = ahead[corner]
            # of two edges the sharper right turn: it stays at the pixel that it goes around
            direction = (direction + 1) % 4 if (direction + 1) % 4 in leaving and len(leaving) > 1 else leaving[0]
            leaving.remove(direction)
            if not leaving:
                del ahead[corner]
            if direction != turned:
                points.append(corner)
            turned = direction
            corner = (corner[0] + _AHEAD[direction][0], corner[1] + _AHEAD[direction][1])
            if corner == start and (direction + 1) % 4 not in ahead.get(start, ()):  # it may come by twice
                break
        found.append(np.array(points, dtype=np.float64) - 1.5)  # one of padding, half a pixel from corner to centre
    return found


def filled(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels with their centre inside an odd number of polygons, or on an outline.

    Outlines through pixel centres come from programs that trace centres: they mean those pixels to be inside.

    Args:
        polygons: (N, 2) vertices (row, column), closed from the last to the first.
        shape: (H, W).
    """
    height, width = shape
    crossed = np.zeros((height, width + 1), dtype=np.int64)
    on = np.zeros(shape, dtype=bool)
    if not polygons:
        return on
    start = np.concatenate(polygons)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.maximum(np.ceil(low - _ON_LINE), 0).astype(int)
    count = np.maximum(np.minimum(np.floor(high + _ON_LINE), height - 1).astype(int) - first + 1, 0)
    flat = high - low <= _ON_LINE
    for level in np.flatnonzero(flat & (count > 0)):
        left, right = sorted((start[level, 1], end[level, 1]))
        on[first[level], max(0, int(np.ceil(left - _ON_LINE))) : max(0, int(np.floor(right + _ON_LINE)) + 1)] = True
    count[flat] = 0
    edge = np.repeat(np.arange(len(start)), count)  # one entry for each row that an edge meets
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    (y, x), (y1, x1) = start[edge].T, end[edge].T
    x = x + (row - y) * (x1 - x) / (y1 - y)
    cuts = (row >= low[edge]) & (row < high[edge])
    np.add.at(crossed, (row[cuts], np.clip(np.ceil(x[cuts]), 0, width).astype(int)), 1)
    column = np.rint(x)
    near = (np.abs(x - column) <= _ON_LINE) & (column >= 0) & (column < width)
    on[row[near], column[near].astype(int)] = True
    return np.asarray((np.cumsum(crossed, axis=1)[:, :width] % 2 == 1) | on)
