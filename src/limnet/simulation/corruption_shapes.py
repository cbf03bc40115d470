"""Random rectangles, triangles and polygons, sized by an object's area: what is added to or cut from masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("rectangle", "triangle", "polygon")


@dataclass(frozen=True)
class Shape:
    """One filled shape in pixel coordinates.

    Attributes:
        kind: "rectangle", "triangle" or "polygon".
        centre: pixel (row, column) that always belongs to the shape.
        vertices: corners (row, column) in order; pixel centres lie on whole numbers.
    """

    kind: str
    centre: tuple[int, int]
    vertices: tuple[tuple[float, float], ...]

    def paint(self, canvas: NDArray[np.bool_], value: bool = True) -> None:
        """Set the pixels of the shape to `value`, in place; what lies outside the canvas (H, W) is cut off."""
        corners = np.asarray(self.vertices, float)
        low = np.clip(np.ceil(corners.min(0)).astype(int), 0, canvas.shape)
        high = np.clip(np.floor(corners.max(0)).astype(int) + 1, low, canvas.shape)
        rows = np.arange(low[0], high[0], dtype=float)[:, None]
        columns = np.arange(low[1], high[1], dtype=float)[None]
        inside = np.zeros((rows.shape[0], columns.shape[1]), bool)
        for (y0, x0), (y1, x1) in zip(self.vertices, self.vertices[1:] + self.vertices[:1], strict=True):
            if y0 != y1:  # even-odd rule: count the edges to the right of each pixel centre
                crosses = (rows >= min(y0, y1)) & (rows < max(y0, y1))
                inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
        canvas[low[0] : high[0], low[1] : high[1]][inside] = value
        if all(0 <= c < n for c, n in zip(self.centre, canvas.shape, strict=True)):
            canvas[self.centre] = value


def draw_shape(rng: np.random.Generator, centre: tuple[int, int], area: float) -> Shape:
    """Draw a shape of one of the three kinds, equally likely.

    Args:
        rng: source of randomness.
        centre: pixel (row, column) in the shape's middle.
        area: size in pixels (> 0).

    Returns:
        A rectangle of side ratio up to 2.5, a triangle or a polygon of 5 to 9 corners, turned at random. Corners are
        rounded to 1/100 pixel, so that parameters stay short.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    turn = float(rng.uniform(0, 2 * np.pi))
    if kind == "rectangle":
        ratio = float(np.exp(rng.uniform(-np.log(2.5), np.log(2.5))))
        half = 0.5 * np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [np.sqrt(ratio), 1 / np.sqrt(ratio)]
        corners = half @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    else:
        count = 3 if kind == "triangle" else int(rng.integers(5, 10))
        angles = turn + (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
        corners = rng.uniform(0.55, 1.0, count)[:, None] * np.stack([np.sin(angles), np.cos(angles)], 1)
    following = np.concatenate([corners[1:], corners[:1]])
    unit = 0.5 * abs(float(np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0])))
    corners = np.round(corners * np.sqrt(area / unit) + centre, 2)
    return Shape(kind, (int(centre[0]), int(centre[1])), tuple((float(a), float(b)) for a, b in corners))
