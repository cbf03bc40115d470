"""How likely a gray value belongs to the object, learned from the surroundings of the clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.protocol import Voxel

BINS = 64


@dataclass(frozen=True)
class Clicks:
    """All clicks of a session so far.

    Attributes:
        positive: voxels on the object, in the order of the clicks.
        negative: voxels off it.
    """

    positive: tuple[Voxel, ...] = ()
    negative: tuple[Voxel, ...] = ()

    def with_click(self, zyx: Sequence[int], positive: bool) -> Clicks:
        """These clicks and one more."""
        voxel = int(zyx[0]), int(zyx[1]), int(zyx[2])
        if positive:
            return Clicks((*self.positive, voxel), self.negative)
        return Clicks(self.positive, (*self.negative, voxel))


def sampled(
    image: NDArray[np.float32], voxels: Sequence[Voxel], spacing: Sequence[float], radius: float
) -> list[NDArray[np.float32]]:
    """Values of a (D, H, W) image within `radius` mm of each voxel, one flat array each."""
    found = []
    reach = [int(radius / s) for s in spacing]
    for voxel in voxels:
        box = tuple(slice(max(v - r, 0), v + r + 1) for v, r in zip(voxel, reach, strict=True))
        axes = [
            (np.arange(b.start, min(b.stop, n)) - v) * s
            for b, v, s, n in zip(box, voxel, spacing, image.shape, strict=True)
        ]
        near = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= radius**2
        found.append(image[box][near])
    return found


def likelihood(
    image: NDArray[np.float32],
    inside: Sequence[NDArray[np.float32]],
    outside: Sequence[NDArray[np.float32]],
    noise: float,
) -> NDArray[np.float32]:
    """Probability of each node to be object by its gray value alone.

    Args:
        image: gray values in [0, 1], any shape.
        inside: values around positive clicks.
        outside: values around negative clicks; the whole image counts as background as well.
        noise: least standard deviation of the values of one tissue.

    Returns:
        Values in (0, 1), float32, of the shape of `image`: density of the object / (density of both).
    """
    width = noise * BINS
    object_density = _density(inside, noise)
    everything = np.histogram(image, BINS, (0, 1))[0].astype(float)
    background = ndimage.gaussian_filter1d(everything / max(everything.sum(), 1), width, mode="nearest")
    if outside:
        background = 0.5 * background + 0.5 * _density(outside, noise)
    ratio = (object_density + 1e-6) / (object_density + background + 2e-6)
    return np.interp(image, (np.arange(BINS) + 0.5) / BINS, ratio).astype(np.float32)


def _density(samples: Sequence[NDArray[np.float32]], noise: float) -> NDArray[np.float64]:
    """Histogram density (BINS,) of groups of values, each smoothed by its own spread and of equal weight."""
    total = np.zeros(BINS)
    for values in samples:
        counts = np.histogram(values, BINS, (0, 1))[0] / max(len(values), 1)
        spread = float(np.hypot(values.std(), noise))
        total += ndimage.gaussian_filter1d(counts, spread * BINS, mode="nearest")
    return total / max(len(samples), 1)
