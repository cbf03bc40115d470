"""Pictures of masks for training logs: slices with the contours of mask and truth, and the clicks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.tasks.base import Pictures

TRUTH, MASK, BOTH = (70, 220, 90), (255, 80, 60), (255, 230, 60)
POSITIVE, NEGATIVE = (80, 170, 255), (255, 90, 230)
GAP = 2


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Inner border of a mask (H, W), one pixel wide."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def draw_grid(pictures: Pictures, count: int = 8, columns: int = 4, scale: int | None = None) -> NDArray[np.uint8]:
    """Draw the first pictures side by side.

    Truth is green, the mask red, yellow where both contours meet; positive clicks are blue, negative ones pink.

    Args:
        pictures: what to draw.
        count: at most so many.
        columns: pictures in a row.
        scale: enlargement; by default what makes a picture about 256 pixels wide.

    Returns:
        uint8 (rows, columns, 3).
    """
    scale = scale or max(1, 256 // pictures.image.shape[-1])
    tiles = []
    for i in range(min(count, len(pictures.image))):
        clicks = pictures.clicks[i] if len(pictures.clicks) else ()
        arrays = (x[i].detach().cpu().float().numpy() for x in (pictures.image, pictures.truth, pictures.mask))
        grey, truth, mask = (a.repeat(scale, 0).repeat(scale, 1) for a in arrays)
        tiles.append(_draw(grey, truth > 0.5, mask > 0.5, clicks, scale))
    columns = min(columns, len(tiles))
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    grid = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        grid[top : top + height, left : left + width] = tile
    return grid


def _draw(
    grey: NDArray[np.float32],
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    clicks: Sequence[tuple[int, int, bool]],
    scale: int,
) -> NDArray[np.uint8]:
    tile = np.repeat((grey.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, 2)
    true, found = contour(truth), contour(mask)
    tile[true], tile[found], tile[true & found] = TRUTH, MASK, BOTH
    for row, column, positive in clicks:
        y, x = (int((v + 0.5) * scale) for v in (row, column))
        tile[max(y - scale, 0) : y + scale + 1, max(x - scale, 0) : x + scale + 1] = POSITIVE if positive else NEGATIVE
    return tile
