"""The volume that everything is timed on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.volume import Volume

SEED = 0
"""Of everything random in what is timed: noise of the image, weights that were not trained."""


class Scene(NamedTuple):
    """An image and its only object.

    Attributes:
        volume: int16 like HU.
        truth: bool (D, H, W).
    """

    volume: Volume
    truth: NDArray[np.bool_]


def scene(size: int, slices: int) -> Scene:
    """An ellipsoid a quarter of the slice wide, on every slice, in a noisy body. Needs little more than its own memory.

    Args:
        size: height and width in pixels.
        slices: depth.
    """
    y, x = np.ogrid[:size, :size]
    right, down = (x - size / 2) / size, (y - size / 2) / size
    body = np.where((right / 0.45) ** 2 + (down / 0.4) ** 2 < 1, -20.0, -900.0)
    ring = (right / 0.13) ** 2 + (down / 0.11) ** 2
    random = np.random.default_rng(SEED)
    image, truth = np.empty((slices, size, size), np.int16), np.empty((slices, size, size), bool)
    for z in range(slices):
        truth[z] = ring < 1 - ((z - (slices - 1) / 2) / slices / 0.6) ** 2
        image[z] = body + 120.0 * truth[z] + random.normal(0, 12, (size, size))
    return Scene(Volume.from_array(image, (3.0, 0.8, 0.8)), truth)
