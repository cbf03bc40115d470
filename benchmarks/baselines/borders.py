"""How well the border of a mask follows edges of the image: by this, peers choose a scale nobody told them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEP = 0.07
"""Difference in gray value (0..1 in the window) over a border that counts for 1 - 1/e of a full edge."""


def border_strength(
    mask: NDArray[np.bool_], values: NDArray[np.float32], spacing: tuple[float, float, float], closed: NDArray[np.bool_]
) -> float:
    """Mean strength of the edges under the border of a mask, 0 (no edge anywhere) to 1; 0 for an empty mask.

    Args:
        mask: (d, h, w).
        values: gray values in [0, 1], same shape.
        spacing: mm between nodes; a face of the border counts by its area.
        closed: nodes that are background by decree, not by the image: borders to them have no strength.
    """
    total = strong = 0.0
    for axis in range(3):
        m, c, v = np.moveaxis(mask, axis, 0), np.moveaxis(closed, axis, 0), np.moveaxis(values, axis, 0)
        border = m[1:] != m[:-1]
        count = int(np.count_nonzero(border))
        if not count:
            continue
        area = float(np.prod(spacing)) / spacing[axis]
        difference = (v[1:] - v[:-1])[border]
        strength = 1.0 - np.exp(-((difference / STEP) ** 2))
        strength[(c[1:] | c[:-1])[border]] = 0.0
        total += area * count
        strong += area * float(strength.sum())
    return strong / total if total else 0.0
