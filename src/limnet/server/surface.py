"""Surface of a mask as triangles, by surface nets: one vertex per mixed cell, one quad per edge that changes sign.

Method: Gibson, Constrained elastic surface nets, MICCAI 1998; smoothing by a few steps towards the mean of neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_TRIANGLES = 150_000  # a browser that draws without a graphics card still turns this many at 20 frames a second
_SMOOTHING = 3
_CORNERS = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]


def surface(
    mask: NDArray[np.bool_], limit: int = MAX_TRIANGLES
) -> tuple[NDArray[np.float32], NDArray[np.uint32], tuple[int, int, int]]:
    """Triangles around a mask (D, H, W), at most `limit`: it is taken at every second, third, ... voxel until they fit.

    Gives vertices (n, 3) in voxel indices of the mask's own axis order, triangles (m, 3) as indices of vertices, seen
    counter-clockwise from outside in that (right-handed) order, and the steps per axis.
    """
    if not mask.any():
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32), (1, 1, 1)
    lows, highs = [], []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        lows.append(int(there[0]))
        highs.append(int(there[-1]) + 1)
    part = mask[tuple(slice(a, b) for a, b in zip(lows, highs, strict=True))]
    step = 1
    # each face of a voxel at the border is a quad: an estimate that needs no mesh
    while 2 * _faces(part[::step, ::step, ::step]) > limit and step < 8:
        step += 1
    vertices, triangles = _nets(part[::step, ::step, ::step])
    return vertices * np.float32(step) + np.array(lows, np.float32), triangles, (step, step, step)


def _faces(mask: NDArray[np.bool_]) -> int:
    return sum(int(np.count_nonzero(np.diff(mask, axis=axis))) for axis in range(3))


def _nets(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    padded = np.pad(mask, 1).astype(np.uint8)
    d, h, w = (n - 1 for n in padded.shape)
    corners = np.zeros((d, h, w), np.uint8)
    for i, j, k in _CORNERS:
        corners += padded[i : i + d, j : j + h, k : k + w]
    mixed = (corners > 0) & (corners < 8)
    number = np.full((d, h, w), -1, np.int64)
    cells = np.argwhere(mixed)
    number[mixed] = np.arange(len(cells))
    vertices = cells.astype(np.float32) - 0.5  # cell (i, j, k) spans voxels i-1..i of the mask
    quads = []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        first = np.moveaxis(padded, (axis, b, c), (0, 1, 2))
        numbers = np.moveaxis(number, (axis, b, c), (0, 1, 2))
        change = first[1:, 1:-1, 1:-1].astype(np.int8) - first[:-1, 1:-1, 1:-1]
        a_, b_, c_ = np.nonzero(change)
        around = np.stack([numbers[a_, b_ + i, c_ + j] for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))], axis=1)
        rising = change[a_, b_, c_] > 0
        around[rising] = around[rising][:, ::-1]
        quads.append(around)
    faces = np.concatenate(quads)
    for _ in range(_SMOOTHING):
        centre = vertices[faces].mean(axis=1)
        share = np.bincount(faces.ravel(), minlength=len(vertices)).astype(np.float32)
        mean = np.stack(
            [np.bincount(faces.ravel(), np.repeat(centre[:, a], 4), len(vertices)) for a in range(3)], axis=1
        )
        vertices = ((vertices + mean / share[:, None]) / 2).astype(np.float32)
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]).astype(np.uint32)
    return vertices, triangles
