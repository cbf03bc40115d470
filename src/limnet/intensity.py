"""Automatic intensity windows: from the modality, the volume's values and the surroundings of a click."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float]

SOFT_TISSUE: Window = (-160.0, 240.0)
LUNG: Window = (-1000.0, 400.0)
BONE: Window = (-200.0, 1300.0)
LUNG_BELOW = -350.0  # HU: median around a click under which the lung window is taken
BONE_ABOVE = 350.0  # HU: median around a click over which the bone window is taken
PERCENTILES = (0.5, 99.5)
_SAMPLE = 1 << 21  # voxels looked at, whatever the size of the volume


class Intensity:
    """Statistics of a volume's values, each computed once and from at most about two million voxels.

    Args:
        array: (D, H, W) or (T, H, W, 3) values; NaN and infinite ones are left out of all statistics.
        modality: "CT", "MR", ... where known; None lets the values decide.
    """

    def __init__(self, array: NDArray[Any], modality: str | None = None) -> None:
        self._array = array
        self._modality = modality

    @cached_property
    def sample(self) -> NDArray[np.float64]:
        """Finite values on a regular subgrid, flat; empty if there are none."""
        shape = self._array.shape[:3]
        steps = [1, 1, 1]
        while np.prod([-(-n // s) for n, s in zip(shape, steps, strict=True)]) > _SAMPLE:
            widest = int(np.argmax([n / s for n, s in zip(shape, steps, strict=True)]))
            steps[widest] += 1
        part = self._array[:: steps[0], :: steps[1], :: steps[2]]
        values = np.asarray(part, dtype=np.float64).ravel()
        return values[np.isfinite(values)]

    @cached_property
    def extremes(self) -> Window:
        """Smallest and largest finite value of the sample, of all voxels where that is constant; (0, 0) if none."""
        values = self.sample
        if values.size == 0 or values.min() == values.max():
            whole = self._array
            values = whole[np.isfinite(whole)] if whole.dtype.kind == "f" else whole
            if values.size == 0:
                return 0.0, 0.0
        return float(values.min()), float(values.max())

    @cached_property
    def is_ct(self) -> bool:
        """Whether values are Hounsfield units: the source says so, or they look like it.

        Looks like CT: integers reaching down to -500 or lower, unless symmetric about zero as MR phase images are;
        or fractions (resampled), at least 1 % of them air.
        """
        low, high = self.extremes
        if self._array.ndim != 3 or low == high:
            return False
        if self._modality is not None:
            return self._modality == "CT"
        if low > -500:
            return False
        if low < -2000 and abs(low + high) < 0.02 * (high - low):
            return False
        some = self.sample[:: max(1, self.sample.size // 100_000)]
        whole = float(np.mean(some == np.round(some)))
        return whole > 0.99 or (low >= -4000 and high > 0 and float(np.mean(some < -800)) > 0.01)

    @cached_property
    def default_window(self) -> Window:
        """Window of the whole volume, lo < hi always.

        CT: soft tissue, or lung where more than half of the voxels are lung (a crop). Colour: the range of the dtype.
        Otherwise percentiles 0.5 and 99.5 of the voxels that are not background (zero, or a frequent smallest value).
        """
        if self._array.ndim == 4:
            return self._color_window()
        if self.is_ct and self.sample.size:
            inflated = np.mean((self.sample > -950) & (self.sample < -500))
            return LUNG if inflated > 0.5 else SOFT_TISSUE
        return self._robust_window()

    def window_around(self, patch: NDArray[Any]) -> Window:
        """Window for an object surrounded by `patch` (any shape): CT soft tissue, lung or bone; else the default."""
        if not self.is_ct:
            return self.default_window
        values = np.asarray(patch, dtype=np.float64)
        values = values[np.isfinite(values)]
        if values.size == 0:
            return self.default_window
        median = float(np.median(values))
        if median < LUNG_BELOW:
            return LUNG
        return BONE if median > BONE_ABOVE else SOFT_TISSUE

    def _color_window(self) -> Window:
        dtype = self._array.dtype
        if dtype.kind == "u" and dtype.itemsize <= 2:
            return 0.0, float(np.iinfo(dtype).max)
        low, high = self.extremes
        if low >= 0 and high <= 255:
            return 0.0, 1.0 if dtype.kind == "f" and high <= 1 else 255.0
        return self._robust_window()

    def _robust_window(self) -> Window:
        low, high = self.extremes
        if low == high:
            return low, low + max(1.0, abs(low) * 1e-3)
        values = self.sample
        kept = values[values != 0] if low >= 0 else values
        if kept.size and np.mean(kept == low) > 0.01:
            kept = kept[kept != low]
        for candidate in (kept, values):
            if candidate.size >= 64:
                lo, hi = np.percentile(candidate, PERCENTILES)
                if lo < hi:
                    return float(lo), float(hi)
        return low, high
