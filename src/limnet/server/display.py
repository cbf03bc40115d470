"""A volume as a screen needs it: 16-bit values, and how its array axes lie in the three planes of a patient."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.image.volume import Volume

MAX_VOXELS = 750_000_000  # 1.5 GB of 16-bit values and 0.75 GB of labels: what a browser tab still holds
_CHUNK = 1 << 22  # voxels per piece sent: 8 MB, little enough for progress and for memory
_OUTLIERS = 200  # a value range this many times wider than the window is cut, or 16 bits would show no contrast

# Planes seen as in radiology: (name, direction to the right of the screen, direction down), directions in LPS.
_PLANES = (("axial", "L", "P"), ("sagittal", "P", "I"), ("coronal", "L", "I"))
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}


class DisplayVolume:
    """What the page gets of a volume: little-endian bytes and their description.

    The bytes are int16 in the volume's own axis order (axis 0 slowest); value = stored * scale + offset. Integers that
    fit stay exact (scale 1). Colour volumes are three planes of uint8, red, green, blue, windowed. InputError if it is
    too large for a browser.
    """

    def __init__(self, volume: Volume) -> None:
        voxels = int(np.prod(volume.shape, dtype=np.int64))
        if voxels > MAX_VOXELS:
            raise InputError(
                f"the volume has {voxels:,} voxels; the viewer shows up to {MAX_VOXELS:,}. "
                "Crop it or halve its resolution, or use `limnet segment`, which has no such limit"
            )
        self.volume = volume

    @cached_property
    def scaling(self) -> tuple[float, float]:
        """(scale, offset) of the stored values."""
        dtype = self.volume.array.dtype
        if self.volume.is_color:
            return 1.0, 0.0
        if (dtype.kind in "iu" and dtype.itemsize == 1) or dtype == np.int16:
            return 1.0, 0.0
        array = self.volume.array
        low, high = _range(array)
        window = self.volume.intensity.default_window
        if high - low > _OUTLIERS * (window[1] - window[0]):
            width = window[1] - window[0]
            low, high = max(low, window[0] - 16 * width), min(high, window[1] + 16 * width)
        if dtype.kind in "iu" or self._whole:
            if low >= -32768 and high <= 32767:
                return 1.0, 0.0
            if high - low <= 65535:
                return 1.0, low + 32768.0
        scale = (high - low) / 65535 or 1.0
        return scale, low + 32768 * scale

    @cached_property
    def _whole(self) -> bool:
        """Whether sampled fractions are none (a CT stored as floats)."""
        some = self.volume.intensity.sample[::7]
        return bool(some.size and np.array_equal(some, np.round(some)))

    @property
    def bytes_total(self) -> int:
        """Length of all pieces of `pieces` together."""
        return int(np.prod(self.volume.shape, dtype=np.int64)) * (3 if self.volume.is_color else 2)

    def pieces(self) -> Iterator[memoryview]:
        """The voxels as bytes, in pieces of a few megabytes."""
        if self.volume.is_color:
            low, high = self.volume.intensity.default_window
            for channel in range(3):
                for part in _slabs(self.volume.array[..., channel]):
                    shown = np.nan_to_num((part.astype(np.float32) - low) * (255 / (high - low)))
                    yield _bytes(np.clip(shown, 0, 255).astype(np.uint8))
            return
        scale, offset = self.scaling
        for part in _slabs(self.volume.array):
            if scale == 1.0 and offset == 0.0 and part.dtype.kind in "iu":
                yield _bytes(part.astype("<i2", copy=False))
                continue
            stored = np.round((part.astype(np.float64) - offset) / scale)
            yield _bytes(np.clip(np.nan_to_num(stored, nan=-32768.0), -32768, 32767).astype("<i2"))

    def describe(self, axis: int) -> dict[str, Any]:
        """Metadata for the page as JSON values; `axis` is that of the case's slices.

        Spacing is in array order, "oriented" says whether patient directions are known, "affine" leads from file index
        x, y, z to mm LPS, and "planes" are those of `planes`.
        """
        volume = self.volume
        window = volume.intensity.default_window
        return {
            "shape": list(volume.shape),
            "spacing": list(volume.spacing),
            "color": volume.is_color,
            "scale": self.scaling[0],
            "offset": self.scaling[1],
            "window": [0.0, 255.0] if volume.is_color else list(window),
            "ct": volume.intensity.is_ct,
            "modality": volume.modality,
            "axis": axis,
            "oriented": is_oriented(volume),
            "affine": volume.affine_in("LPS").tolist(),
            "planes": planes(volume),
        }


def is_oriented(volume: Volume) -> bool:
    """Whether the source said where left, front and top of the patient are."""
    if volume.is_color:
        return False
    plain = np.diag([*volume.spacing[::-1], 1.0])
    return volume.header is not None or volume.modality is not None or not np.allclose(volume.affine, plain)


def planes(volume: Volume) -> list[dict[str, Any]]:
    """Axial, sagittal and coronal planes in radiological orientation, in terms of array axes.

    "axis" is the array axis a plane cuts, "across" and "down" those that run to the right and down on the screen,
    "flip_across" and "flip_down" whether their index falls in that direction, "letters" the patient directions at left,
    right, top and bottom (the nearest ones of oblique volumes).
    """
    directions = _directions(volume)
    result = []
    for name, right, down in _PLANES:
        across, flip_across = _lookup(directions, right)
        vertical, flip_down = _lookup(directions, down)
        result.append(
            {
                "name": name,
                "axis": 3 - across - vertical,
                "across": across,
                "down": vertical,
                "flip_across": flip_across,
                "flip_down": flip_down,
                "letters": [_OPPOSITE[right], right, _OPPOSITE[down], down],
            }
        )
    return result


def _directions(volume: Volume) -> list[str]:
    """Per array axis the patient direction, of L, R, P, A, S, I, in which its index rises."""
    if volume.is_color:
        return ["I", "P", "L"]  # frames run down in the side views; pictures keep their rows and columns
    import nibabel

    return list(nibabel.aff2axcodes(volume.affine_in("RAS")))[::-1]


def _lookup(directions: list[str], wanted: str) -> tuple[int, bool]:
    """Array axis that runs along a direction, and whether it runs the other way."""
    if wanted in directions:
        return directions.index(wanted), False
    return directions.index(_OPPOSITE[wanted]), True


def _slabs(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, _CHUNK // max(1, int(np.prod(array.shape[1:], dtype=np.int64))))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest finite value of all voxels; (0, 1) if there are none."""
    low, high = np.inf, -np.inf
    for part in _slabs(array):
        finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 1.0)
