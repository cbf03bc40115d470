"""Masks stored small: a boolean array as run lengths, and slices of a result.

Of a slice of a result it is the box where the probability is not zero, quantised to 8 bits and compressed.

Slices are immutable and shared between rounds, so a whole undo history costs little more than the slices that changed.
Everything the library computes starts from the stored values, which makes undo, sessions and repeated runs exact.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError, InputTypeError

Slice = NDArray[np.float32]
"""(H, W) float32 probabilities in [0, 1] of one slice; the object is where they are > 0.5."""

_FLOOR = 5  # of 255: probabilities below 0.02 are stored as 0, so that faint noise does not widen the box


@dataclass(frozen=True)
class SliceMask:
    """Probabilities of one slice that is not empty everywhere.

    Attributes:
        box: (top, left, height, width) of the stored part; zero outside.
        packed: zlib-compressed uint8 values, round(255 p) of the box, row-major.
        area: Number of mask pixels (probability > 0.5).
    """

    shape: tuple[int, int]
    box: tuple[int, int, int, int]
    packed: bytes
    area: int

    def levels(self) -> NDArray[np.uint8]:
        """(height, width) uint8 values of the box; mask pixels are those >= 128."""
        return np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(self.box[2:])


Slices = tuple[SliceMask | None, ...]
"""One entry per slice of a volume; None is an empty slice."""


def pack(probability: ArrayLike) -> SliceMask | None:
    """Store a slice of (H, W) probabilities in [0, 1]; None if every value is below 0.02.

    p > 0.5 stays exactly the pixels that `unpack(...) > 0.5` gives back. Raises InputError for NaN or other values.
    """
    array = np.asarray(probability, dtype=np.float32)
    low, high = array.min(initial=np.inf), array.max(initial=-np.inf)
    if array.ndim != 2 or (array.size and not (low >= 0 and high <= 1)):
        raise InputError(
            f"a slice needs (H, W) probabilities in [0, 1] without NaN; got shape {array.shape}, "
            f"range {low}..{high}. Check the network"
        )
    rows, columns = _stored_box(array)
    # 0.5 itself is not object: it has to round down
    part = np.ceil(array[rows, columns] * np.float32(255) - np.float32(0.5)).astype(np.uint8)
    if not part.size:
        return None
    part[part < _FLOOR] = 0
    return SliceMask(
        shape=(int(array.shape[0]), int(array.shape[1])),
        box=(rows.start, columns.start, *part.shape),
        packed=zlib.compress(part.tobytes(), 1),
        area=int((part >= 128).sum()),
    )


def _stored_box(probability: NDArray[np.float32]) -> tuple[slice, slice]:
    """Rows and columns that hold all probabilities worth storing."""
    seen = probability > np.float32((_FLOOR - 0.5) / 255)
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    if not rows.size:
        return slice(0), slice(0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def unpack(stored: SliceMask | None, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) float32 probabilities of a stored slice, a new array."""
    return dense_probability((stored,), (1, *shape), 0)[0]


def area(stored: SliceMask | None) -> int:
    """Number of mask pixels of a slice."""
    return 0 if stored is None else stored.area


def is_empty(stored: SliceMask | None) -> bool:
    """Whether no pixel of the slice belongs to the mask (faint probabilities may remain)."""
    return area(stored) == 0


def depth_inside(region: NDArray[np.bool_], spacing: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Distance of every pixel or voxel to the nearest one outside a region; beyond the array is outside.

    In pixels, or in the units of `spacing` (one number per axis).
    """
    from scipy.ndimage import distance_transform_edt

    inner = (slice(1, -1),) * region.ndim
    return np.asarray(distance_transform_edt(np.pad(region, 1), sampling=spacing)[inner])


def dense_mask(slices: Slices, shape: Sequence[int], axis: int) -> NDArray[np.bool_]:
    """(D, H, W) boolean mask in the volume's own axis order, of one entry per slice along `axis`."""
    result = np.zeros(tuple(shape), dtype=bool)
    for part, stored in _parts(slices, np.moveaxis(result, axis, 0)):
        part[...] = stored.levels() >= 128
    return result


def dense_probability(slices: Slices, shape: Sequence[int], axis: int) -> NDArray[np.float32]:
    """(D, H, W) float32 probability in the volume's own axis order, in steps of 1/255."""
    result = np.zeros(tuple(shape), dtype=np.float32)
    for part, stored in _parts(slices, np.moveaxis(result, axis, 0)):
        part[...] = stored.levels() / np.float32(255)
    return result


def overlap(first: SliceMask | None, second: SliceMask | None) -> float:
    """Dice overlap of the masks of two slices, 1.0 when both are empty."""
    total = area(first) + area(second)
    if not total or first is second:
        return 1.0
    if first is None or second is None or is_empty(first) or is_empty(second):
        return 0.0
    top, left = (max(first.box[i], second.box[i]) for i in (0, 1))
    bottom, right = (min(first.box[i] + first.box[i + 2], second.box[i] + second.box[i + 2]) for i in (0, 1))
    if top >= bottom or left >= right:
        return 0.0
    parts = [
        stored.levels()[top - stored.box[0] : bottom - stored.box[0], left - stored.box[1] : right - stored.box[1]]
        for stored in (first, second)
    ]
    return 2.0 * float(np.count_nonzero((parts[0] >= 128) & (parts[1] >= 128))) / total


def _parts(slices: Slices, dense: NDArray[Any]) -> Iterator[tuple[NDArray[Any], SliceMask]]:
    """The stored boxes as views of a dense array (slice, row, column)."""
    for index, stored in enumerate(slices):
        if stored is not None:
            top, left, height, width = stored.box
            yield dense[index, top : top + height, left : left + width], stored


_FINE = np.float32(65535)  # 257 * 255: no pixel is rounded over the middle between two stored levels


class SliceStore(MutableMapping[int, NDArray[np.float32]]):
    """Probabilities of many slices (H, W) by their numbers, in a fraction of their memory.

    Only the box with what `pack` keeps is held, in 65535ths: packing gives the same as of the slices themselves.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[tuple[int, ...], tuple[slice, ...], NDArray[np.uint16]]] = {}

    def __setitem__(self, index: int, probability: NDArray[np.float32]) -> None:
        box = _stored_box(probability)
        levels = np.ceil(probability[box] * _FINE - np.float32(0.5)).astype(np.uint16)
        self._held[index] = probability.shape, box, levels

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        shape, box, levels = self._held[index]
        result = np.zeros(shape, dtype=np.float32)
        result[box] = levels / _FINE
        return result

    def take(self, other: SliceStore) -> None:
        """Hold all slices of another store, too."""
        self._held |= other._held

    def __delitem__(self, index: int) -> None:
        del self._held[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


@dataclass(frozen=True)
class BitMask:
    """Immutable boolean array of any shape.

    `runs` are the lengths of runs of equal values in row-major order; the first is False (0 long if the array starts
    with True). They add up to the number of elements.

    >>> packed = BitMask.of(np.array([[False, True, True]]))
    >>> packed.to_json()
    {'shape': [1, 3], 'runs': [1, 2]}
    >>> packed.array()
    array([[False,  True,  True]])
    """

    shape: tuple[int, ...]
    runs: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> BitMask:
        """Pack a boolean (or 0/1 integer) array; raises InputTypeError for other values."""
        array = np.asarray(array)
        if array.dtype != bool:
            if not np.issubdtype(array.dtype, np.integer) or ((array != 0) & (array != 1)).any():
                raise InputTypeError(
                    f"a mask must be boolean (or integers that are only 0 and 1), not {array.dtype}: "
                    "make one with `array > 0` or `array == label`"
                )
            array = array.astype(bool)
        flat = array.reshape(-1)
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        bounds = np.concatenate([[0], edges, [flat.size]])
        runs = np.diff(bounds).tolist() if flat.size else []
        if flat.size and flat[0]:
            runs.insert(0, 0)
        return cls(tuple(int(n) for n in array.shape), tuple(runs))

    def array(self) -> NDArray[np.bool_]:
        """Unpack into a new boolean array of `shape`."""
        values = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(values, self.runs).reshape(self.shape)

    def places(self) -> NDArray[np.intp]:
        """(count, dimensions) indices of the True elements, in row-major order; cheap for few of them."""
        lengths = np.asarray(self.runs[1::2], dtype=np.intp)
        starts = np.cumsum(self.runs)[1::2] - lengths
        flat = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        return np.stack(np.unravel_index(flat, self.shape), axis=1)

    @property
    def count(self) -> int:
        """Number of True elements."""
        return sum(self.runs[1::2])

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary, the inverse of `from_json`."""
        return {"shape": list(self.shape), "runs": list(self.runs)}

    @classmethod
    def from_json(cls, data: Any) -> BitMask:
        """Read what `to_json` wrote; raises InputError for missing keys, or runs that do not add up to the shape."""
        try:
            shape, runs = tuple(data["shape"]), tuple(data["runs"])
        except (TypeError, KeyError) as error:
            raise InputError(
                'a mask in JSON is {"shape": [...], "runs": [...]} with run lengths that start with False; '
                f"got {str(data)[:80]}"
            ) from error
        if not all(type(n) is int and n >= 0 for n in (*shape, *runs)):
            raise InputError(
                "shape and run lengths of a mask in JSON must be integers >= 0; write it again with to_json()"
            )
        size = 1
        for n in shape:
            size *= n
        if sum(runs) != size:
            raise InputError(
                f"run lengths of a mask add up to {sum(runs)} but its shape {list(shape)} has {size} elements"
            )
        return cls(shape, runs)
