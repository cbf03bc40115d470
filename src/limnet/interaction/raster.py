"""Discs, strokes and outlines drawn into pixel grids (pixel centres at integer coordinates)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.prompts import Prompt2D


def draw_stroke(target: NDArray[np.bool_], points: ArrayLike, radius: float) -> None:
    """Set every pixel within `radius` of a polyline, in place.

    Args:
        target: (H, W) array to draw into.
        points: (N, 2) vertices (y, x), fractions allowed, also outside the grid. One point gives a disc.
        radius: Distance in pixels, border included (squared distance <= radius squared).
    """
    path = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    ends = path[1:] if len(path) > 1 else path
    for start, end in zip(path, ends, strict=False):
        lo = np.floor(np.minimum(start, end) - radius).astype(np.int64)
        hi = np.ceil(np.maximum(start, end) + radius).astype(np.int64) + 1
        (y0, x0), (y1, x1) = np.maximum(lo, 0), np.minimum(hi, target.shape)
        if y0 >= y1 or x0 >= x1:
            continue
        rows = np.arange(y0, y1, dtype=np.float64)[:, None]
        columns = np.arange(x0, x1, dtype=np.float64)[None, :]
        dy, dx = end - start
        length = dy * dy + dx * dx
        if length > 0:
            along = np.clip(((rows - start[0]) * dy + (columns - start[1]) * dx) / length, 0.0, 1.0)
            distance = (rows - start[0] - along * dy) ** 2 + (columns - start[1] - along * dx) ** 2
        else:
            distance = (rows - start[0]) ** 2 + (columns - start[1]) ** 2
        target[y0:y1, x0:x1] |= distance <= radius * radius


def draw_polygon(target: NDArray[np.bool_], points: ArrayLike) -> None:
    """Set, in place, every pixel with its centre in a closed polygon (even-odd) or near its outline (half a pixel).

    Args:
        target: (H, W) array to draw into.
        points: (N, 2) vertices (y, x); the last one is joined to the first.
    """
    path = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    closed = np.concatenate([path, path[:1]])
    height, width = target.shape
    top = max(int(np.floor(path[:, 0].min())), 0)
    bottom = min(int(np.ceil(path[:, 0].max())) + 1, height)
    start, end = closed[:-1], closed[1:]
    columns = np.arange(width)
    for row in range(top, bottom):
        crossing = (start[:, 0] <= row) != (end[:, 0] <= row)
        if crossing.any():
            a, b = start[crossing], end[crossing]
            cuts = np.sort(a[:, 1] + (row - a[:, 0]) * (b[:, 1] - a[:, 1]) / (b[:, 0] - a[:, 0]))
            target[row] |= np.searchsorted(cuts, columns) % 2 == 1
    draw_stroke(target, closed, 0.5)


def prompt_pixels(prompt: Prompt2D, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a slice that a prompt names: the click, the stroke, or the region of box, lasso or mask.

    Args:
        prompt: Prompt in slice coordinates.
        shape: (H, W) of the slice.

    Returns:
        (H, W) boolean array.
    """
    if prompt.mask is not None:
        return prompt.mask.array()
    pixels = np.zeros(shape, dtype=bool)
    if prompt.kind == "box":
        (y0, x0), (y1, x1) = prompt.points
        pixels[y0 : y1 + 1, x0 : x1 + 1] = True
    elif prompt.kind == "lasso":
        draw_polygon(pixels, prompt.points)
    else:
        draw_stroke(pixels, prompt.points, 0.5)
        ys, xs = zip(*prompt.points, strict=True)
        pixels[list(ys), list(xs)] = True
    return pixels


def grow(pixels: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Pixels within `radius` of a set pixel (Euclidean distance in pixels, border included)."""
    points = np.argwhere(pixels)
    if len(points) > 200:
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(~pixels) <= radius)
    result = np.zeros_like(pixels)
    for point in points:
        draw_stroke(result, point, radius)
    return result


def outline(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pixels along the outer border of a connected mask, in order, by Moore neighbour tracing.

    Args:
        mask: (H, W), one 8-connected piece, not empty.

    Returns:
        (y, x) pixels of the mask; a polygon through them (`draw_polygon`) gives the mask back with its holes filled.
    """
    padded = np.pad(mask, 1)
    row, column = np.argwhere(padded)[0].tolist()
    start = (row, column)
    around = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)]  # clockwise from the left
    path, here, came = [start], start, 0  # the pixel to the left of the first one is empty
    first_step: tuple[tuple[int, int], tuple[int, int]] | None = None
    while True:
        for turn in range(8):
            side = (came + turn) % 8
            there = (here[0] + around[side][0], here[1] + around[side][1])
            if padded[there]:
                break
        else:
            break  # a single pixel
        if first_step is None:
            first_step = (here, there)
        elif (here, there) == first_step:
            path.pop()
            break
        path.append(there)
        # go on looking from the empty pixel seen last before this one
        back = (side + 7) % 8
        seen = (here[0] + around[back][0] - there[0], here[1] + around[back][1] - there[1])
        came = around.index(seen)
        here = there
    return [(y - 1, x - 1) for y, x in path]
