"""SliceView: a volume as a stack of 2D images along one axis, windowed for the networks."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError, InputTypeError, OutsideError
from limnet.image.volume import Volume, Window

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_PATCH_MM = 6.0  # half width of the neighbourhood that chooses a CT window
_PATCH_PIXELS = (2, 16)

Part = tuple[slice, slice]
WHOLE: Part = slice(None), slice(None)


class SliceView:
    """One volume seen along an axis. View order is (slice, row, column): that axis in front, the other two in order.

    Nothing is copied until a slice is asked for; views of one volume share their statistics. `axis` is the array axis
    that counts the slices; `window` is (lo, hi) in raw units (HU, counts) shown as 0..1, None chooses by modality and
    values.
    """

    def __init__(self, volume: Volume, axis: int = 0, window: Sequence[float] | None = None) -> None:
        self.volume = volume
        self.axis = checked_axis(axis)
        self._stack = np.moveaxis(volume.array, self.axis, 0)
        self._window = None if window is None else checked_window(window)

    def __len__(self) -> int:
        """Number of slices."""
        return int(self._stack.shape[0])

    def __repr__(self) -> str:
        return f"SliceView(axis={self.axis}, slices={len(self)}, shape={self.shape}, window={self.window})"

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of a slice."""
        return int(self._stack.shape[1]), int(self._stack.shape[2])

    @property
    def spacing(self) -> tuple[float, float]:
        """mm between rows and between columns of a slice."""
        first, second = (s for axis, s in enumerate(self.volume.spacing) if axis != self.axis)
        return first, second

    @property
    def gap(self) -> float:
        """mm between slices."""
        return self.volume.spacing[self.axis]

    @property
    def channels(self) -> int:
        """Channels of `image`: 1 gray, 3 colour."""
        return 3 if self.volume.is_color else 1

    @property
    def window(self) -> Window:
        """The (lo, hi) in use, raw units, lo < hi."""
        return self.volume.intensity.default_window if self._window is None else self._window

    def with_window(self, window: Sequence[float] | None) -> SliceView:
        """The same view with another window (None: automatic); nothing is copied or computed."""
        return SliceView(self.volume, self.axis, window)

    def raw(self, index: int) -> NDArray[np.float32]:
        """Slice in raw units, float32 (H, W) or (H, W, 3); a fresh array, NaN and infinities as they are."""
        return self._stack[self.checked_index(index)].astype(np.float32)

    def image(self, index: int, part: Part = WHOLE) -> NDArray[np.float32]:
        """Windowed slice or the rows and columns `part` of it, float32 (C, H, W) in [0, 1], contiguous; C is 1 or 3.

        NaN and -inf become 0, +inf becomes 1; a constant volume becomes zeros under the automatic window.
        """
        low, high = self.window
        slab = self._stack[self.checked_index(index)][part]
        precise = slab.dtype.itemsize > 4 or (slab.dtype.kind in "iu" and slab.dtype.itemsize == 4)
        scaled = slab.astype(np.float64 if precise else np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled -= low
            scaled /= high - low
        np.clip(scaled, 0.0, 1.0, out=scaled)
        if slab.dtype.kind == "f":
            np.nan_to_num(scaled, copy=False, nan=0.0)
        planes = np.moveaxis(scaled, -1, 0) if self.volume.is_color else scaled[None]
        return np.ascontiguousarray(planes, dtype=np.float32)

    def gray(self, index: int, part: Part = WHOLE) -> NDArray[np.float32]:
        """Windowed slice or part as one channel, float32 (1, H, W) in [0, 1]; colours by luminance."""
        image = self.image(index, part)
        if image.shape[0] == 1:
            return image
        return np.clip(np.tensordot(_LUMINANCE, image, axes=1), 0.0, 1.0)[None]

    def auto_window(self, index: int, yx: Sequence[float] | None = None) -> Window:
        """Window for an object on a slice.

        CT gets the lung, bone or soft-tissue window by the median within about 6 mm of the point `yx` (row, column) in
        the object; without a point, and for all else, the volume's default. Raises OutsideError for a place outside the
        volume.
        """
        index = self.checked_index(index)
        if yx is None or self.volume.is_color:
            return self.volume.intensity.default_window
        centre = np.asarray(yx, dtype=np.float64)
        if centre.shape != (2,) or not np.isfinite(centre).all():
            raise InputError(f"point {yx!r} came: expected two finite numbers, row and column on the slice")
        rows_columns = np.round(centre).astype(int)
        if (rows_columns < 0).any() or (rows_columns >= self.shape).any():
            raise OutsideError(
                f"point {yx!r} is outside the slice: rows 0..{self.shape[0] - 1}, columns 0..{self.shape[1] - 1}"
            )
        reach = [int(np.clip(round(_PATCH_MM / step), *_PATCH_PIXELS)) for step in self.spacing]
        row, column = (slice(max(0, int(p) - r), int(p) + r + 1) for p, r in zip(rows_columns, reach, strict=True))
        return self.volume.intensity.window_around(self._stack[index, row, column])

    def to_view(self, array: NDArray[Any]) -> NDArray[Any]:
        """A (D, H, W[, ...]) array of the volume in view order; no copy. InputError for fewer axes."""
        if np.ndim(array) < 3:
            raise InputError(f"an array of shape {np.shape(array)} came: expected three axes, (D, H, W)")
        return np.moveaxis(array, self.axis, 0)

    def points_to_view(self, points: ArrayLike) -> NDArray[Any]:
        """(..., 3) points (z, y, x) of the volume as (slice, row, column) of this view; dtype kept."""
        return _triples(points)[..., [self.axis, *self._others]]

    def points_from_view(self, points: ArrayLike) -> NDArray[Any]:
        """(..., 3) points (slice, row, column) of this view as (z, y, x) of the volume; dtype kept."""
        return _triples(points)[..., np.argsort([self.axis, *self._others])]

    @property
    def _others(self) -> list[int]:
        return [axis for axis in range(3) if axis != self.axis]

    def checked_index(self, index: int) -> int:
        """A slice number as a plain integer; OutsideError or InputTypeError for anything else."""
        try:
            number = operator.index(index)
        except TypeError as error:
            raise InputTypeError(f"slice {index!r} came: expected a whole number 0..{len(self) - 1}") from error
        if not 0 <= number < len(self):
            raise OutsideError(
                f"slice {number} is outside the volume: along axis {self.axis} it has 0..{len(self) - 1}"
            )
        return number


def checked_axis(axis: int) -> int:
    """0, 1 or 2 as a plain integer; raises InputError or InputTypeError otherwise."""
    allowed = "allowed are 0, 1 and 2, the axes of the (D, H, W) array"
    try:
        number = -1 if isinstance(axis, (bool, np.bool_)) else operator.index(axis)
    except TypeError as error:
        raise InputTypeError(f"axis {axis!r} came: {allowed}") from error
    if number not in (0, 1, 2):
        raise InputError(f"axis {axis!r} came: {allowed}")
    return number


def checked_window(window: Sequence[float]) -> Window:
    """(lo, hi) as floats; raises InputError unless both are finite and lo < hi."""
    advice = "Give (lo, hi) in raw units with lo < hi, such as (-160, 240) for soft tissue in HU"
    try:
        values = [] if isinstance(window, (str, bytes, dict)) else [float(v) for v in window]
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"window {window!r} came. {advice}") from error
    if len(values) != 2 or not np.isfinite(values).all() or values[0] >= values[1]:
        raise InputError(f"window {window!r} came. {advice}")
    return values[0], values[1]


def _triples(points: ArrayLike) -> NDArray[Any]:
    values = np.asarray(points)
    if values.ndim == 0 or values.shape[-1] != 3:
        raise InputError(f"points of shape {values.shape} came: expected three numbers each")
    return values
