"""Prompts as pixels of a slice, and as maps that a network reads: discs, thick strokes, filled regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError
from limnet.image.slices import depth_inside
from limnet.prompts import Prompt2D

if TYPE_CHECKING:
    from torch import Tensor


def draw_stroke(target: NDArray[np.bool_], points: ArrayLike, radius: float) -> None:
    """Set every pixel within `radius` (included) of a polyline, in place; a single point gives a disc.

    `points` are (N, 2) vertices (y, x), fractions allowed, also outside the (H, W) grid.
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
    """Set, in place, every pixel with its centre in a closed polygon (even-odd) or near its outline (half a pixel)."""
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
    """(H, W) bool pixels of a slice that a prompt names: the click, the stroke, or the region of box, lasso or mask."""
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
    """Pixels (y, x) along the outer border of a connected (H, W) mask, in order, by Moore neighbour tracing.

    A polygon through them (`draw_polygon`) gives the mask back with its holes filled.
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


def fit_image(image: Tensor, network: Any) -> Tensor:
    """Grey (B, 1, H, W) repeated over the network's image channels; other images as they are."""
    if image.shape[1] == 1 and network.image_channels > 1:
        return image.expand(-1, network.image_channels, -1, -1)
    return image


def fit_prompts(prompts: Tensor, network: Any) -> Tensor:
    """The maps previous, positive, negative, bounds (B, 4, H, W) in the network's order, without those it lacks."""
    wanted = tuple(network.prompt_channels)
    if wanted == CHANNELS:
        return prompts
    return prompts[:, [CHANNELS.index(name) for name in wanted]]


CHANNELS: tuple[str, ...] = ("previous", "positive", "negative", "bounds")
Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def guidance_maps(
    prompts: Sequence[Prompt2D],
    shape: tuple[int, int],
    channels: Sequence[str],
    click_radius: float,
    transform: Transform = np.asarray,
) -> NDArray[np.float32]:
    """Draw the prompts of one slice: (len(channels), h, w) float32 of 0 and 1.

    Clicks become discs and scribbles strokes of the same radius, in "positive" or "negative". Boxes and positive lassos
    fill "bounds"; a negative lasso fills "negative". For a network without "bounds" a box or positive lasso becomes a
    disc at the deepest point of its region. Masks are not drawn: they reach the network as its previous mask.

    Args:
        prompts: In slice coordinates, in the order they were given.
        shape: (h, w) of the network input.
        channels: Names of the maps in order, from `CHANNELS`; "previous" stays zero here (the predictor fills it).
        click_radius: In network pixels; a pixel is set where its squared distance is <= radius squared.
        transform: Maps (N, 2) slice coordinates to network-input coordinates.

    Raises:
        InputError: for an unknown channel name.
    """
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown:
        raise InputError(f"unknown prompt channels {unknown}; a network may have {', '.join(CHANNELS)}")
    maps = {name: np.zeros(shape, dtype=bool) for name in (*channels, "positive", "negative", "bounds")}
    for prompt in prompts:
        side = maps["positive" if prompt.positive else "negative"]
        if prompt.kind in ("click", "scribble"):
            _draw_line(side, prompt, click_radius, transform)
        elif prompt.kind in ("box", "lasso"):
            region = np.zeros(shape, dtype=bool)
            draw_polygon(region, transform(_outline(prompt)))
            if not prompt.positive:
                side |= region
            elif "bounds" in channels:
                maps["bounds"] |= region
            else:
                draw_stroke(side, transform(np.array([_deepest(prompt)], dtype=np.float64)), click_radius)
    return np.stack([maps[name] for name in channels]).astype(np.float32)


def _draw_line(target: NDArray[np.bool_], prompt: Prompt2D, radius: float, transform: Transform) -> None:
    if prompt.mask is None:
        draw_stroke(target, transform(np.array(prompt.points, dtype=np.float64)), radius)
        return
    placed = np.rint(transform(np.argwhere(prompt.mask.array()).astype(np.float64))).astype(np.int64)
    pad = int(np.ceil(radius))
    height, width = target.shape
    near = ((placed >= -pad) & (placed < np.array([height + pad, width + pad]))).all(axis=1)
    canvas = np.zeros((height + 2 * pad, width + 2 * pad), dtype=bool)
    canvas[placed[near, 0] + pad, placed[near, 1] + pad] = True
    target |= grow(canvas, radius)[pad : pad + height, pad : pad + width]


def _outline(prompt: Prompt2D) -> NDArray[np.float64]:
    points = np.array(prompt.points, dtype=np.float64)
    if prompt.kind == "lasso":
        return points
    (y0, x0), (y1, x1) = points + np.array([[-0.5, -0.5], [0.5, 0.5]])  # whole pixels, both corners included
    inset = 1e-6  # so that a neighbour whose centre is half a pixel away stays outside
    return np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)]) + inset * np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])


def _deepest(prompt: Prompt2D) -> tuple[int, int]:
    """Pixel of the region that is farthest from its border (the first one, row by row)."""
    (y0, x0), (y1, x1) = np.min(prompt.points, axis=0), np.max(prompt.points, axis=0)
    moved = tuple((y - int(y0), x - int(x0)) for y, x in prompt.points)
    region = prompt_pixels(Prompt2D(prompt.kind, True, moved), (int(y1 - y0) + 1, int(x1 - x0) + 1))
    depth = depth_inside(region)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y + y0), int(x + x0)
