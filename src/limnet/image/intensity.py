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
_FLOOR = -4100.0  # HU: CT is stored from -1024, padded with down to -4096
_SAMPLE = 1 << 21  # voxels looked at, whatever the size of the volume


class Intensity:
    """Statistics of (D, H, W) or (T, H, W, 3) values, each computed once and from at most about two million voxels.

    NaN and infinite values are left out. Without a modality ("CT", "MR", ...) the values decide.
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
        """Whether values are Hounsfield units: the source says so or, where it is silent, they are spread like them."""
        low, high = self.extremes
        if self._array.ndim != 3 or low == high:
            return False
        if self._modality is not None:
            return self._modality == "CT"
        return _like_hounsfield(self.sample)

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
        values = np.asarray(patch, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not self.is_ct or values.size == 0:
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


def _like_hounsfield(values: NDArray[np.float64]) -> bool:
    """Whether values have the two peaks of CT, air or lung and soft tissue, and little else.

    Told apart so are electron microscopy, phase contrast and field maps, which reach as low: they have one peak, are
    symmetric about zero or go far below air. Limits measured on 552 CT volumes and crops, of which all are recognised,
    down to nodules in the lung and organs with a little gas, and on 208 others, of which none is.
    """
    low = float(values.min())
    padded = values == low
    if low < _FLOOR and padded.mean() > 0.001:  # padding of a scanner, such as -8192
        values = values[~padded]
        low = float(values.min()) if values.size else 0.0
        padded = values == low
    if not _FLOOR <= low <= -500:
        return False

    def share(start: float, stop: float) -> float:
        return float(np.mean((values >= start) & (values < stop)))

    below = float(np.mean(values < -1100))
    floor = float(np.mean(padded)) if low < -1100 else 0.0  # voxels outside the scanner's circle
    dark, between = share(-1100, -500) + floor, share(-500, -200)
    soft, bright = share(-200, 200), share(500, 1100)
    two_peaks = dark / 600 >= 0.4 * between / 300  # per HU, dark values are not much rarer than those between the peaks
    return below - floor <= 0.05 and dark >= 0.005 and dark >= 2 * bright and dark + soft >= 0.4 and two_peaks
