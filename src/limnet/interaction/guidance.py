"""Prompts as maps that a network reads: discs, thick strokes and filled regions in network-input pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError
from limnet.interaction.raster import draw_polygon, draw_stroke, grow, prompt_pixels
from limnet.prompts import Prompt2D

CHANNELS: tuple[str, ...] = ("previous", "positive", "negative", "bounds")
Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class WindowTransform:
    """From slice pixels to pixels of a network input that shows a window of the slice, scaled (pixel areas aligned).

    Attributes:
        top, left: First row and column of the window in the slice (may lie outside it).
        scale_y, scale_x: Network-input pixels per slice pixel.
    """

    top: float = 0.0
    left: float = 0.0
    scale_y: float = 1.0
    scale_x: float = 1.0

    @classmethod
    def of(cls, window: tuple[int, int, int, int], size: tuple[int, int]) -> WindowTransform:
        """Transform of a window (top, left, height, width) resized to `size` (h, w)."""
        top, left, height, width = window
        return cls(float(top), float(left), size[0] / height, size[1] / width)

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N, 2) slice coordinates (y, x) to (N, 2) network-input coordinates; pixel centres are integers in both."""
        scale = np.array([self.scale_y, self.scale_x])
        shifted = np.asarray(points, dtype=np.float64).reshape(-1, 2) - (self.top, self.left)
        return np.asarray((shifted + 0.5) * scale - 0.5)


IDENTITY = WindowTransform()


def guidance_maps(
    prompts: Sequence[Prompt2D],
    shape: tuple[int, int],
    channels: Sequence[str],
    click_radius: float,
    transform: Transform = IDENTITY,
) -> NDArray[np.float32]:
    """Draw the prompts of one slice.

    Clicks become discs and scribbles strokes of the same radius, in "positive" or "negative". Boxes and positive lassos
    fill "bounds"; a negative lasso fills "negative". For a network without "bounds" a box or positive lasso becomes a
    disc at the deepest point of its region. Masks are not drawn: they reach the network as its previous mask.

    Args:
        prompts: In slice coordinates, in the order they were given.
        shape: (h, w) of the network input.
        channels: Names of the maps in order, from `CHANNELS`; "previous" stays zero here (the predictor fills it).
        click_radius: Radius in network-input pixels; a pixel is set where its squared distance is <= radius squared.
        transform: Maps (N, 2) slice coordinates to network-input coordinates.

    Returns:
        (len(channels), h, w) float32 of 0 and 1.

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
    from scipy.ndimage import distance_transform_edt

    (y0, x0), (y1, x1) = np.min(prompt.points, axis=0), np.max(prompt.points, axis=0)
    moved = tuple((y - int(y0), x - int(x0)) for y, x in prompt.points)
    region = prompt_pixels(Prompt2D(prompt.kind, True, moved), (int(y1 - y0) + 1, int(x1 - x0) + 1))
    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y + y0), int(x + x0)
