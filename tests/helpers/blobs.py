"""2-D objects to damage: disks, thin bars and random blobs."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def disk(shape: tuple[int, int] = (120, 140), centre: tuple[float, float] = (60, 66), radius: float = 28) -> np.ndarray:
    """A disk, bool (H, W)."""
    y, x = np.indices(shape)
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def blob(seed: int, shape: tuple[int, int] = (64, 72), roughness: float = 4.0, share: float = 0.2) -> np.ndarray:
    """A random object of one or several pieces that covers about `share` of the slice, bool (H, W)."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), roughness)
    return field > np.quantile(field, 1 - share)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two bool arrays."""
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def perimeter(mask: np.ndarray) -> int:
    """Number of pixel edges between object and background."""
    padded = np.pad(mask, 1).astype(int)
    return int(sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in (0, 1)))
