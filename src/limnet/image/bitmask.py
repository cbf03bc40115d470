"""A boolean array as run lengths: small, hashable and JSON-able (used for mask prompts and scribbles).

>>> packed = BitMask.of(np.array([[False, True, True]]))
>>> packed.to_json()
{'shape': [1, 3], 'runs': [1, 2]}
>>> packed.array()
array([[False,  True,  True]])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError


@dataclass(frozen=True)
class BitMask:
    """Immutable boolean array of any shape.

    `runs` are the lengths of runs of equal values in row-major order; the first is False (0 long if the array starts
    with True). They add up to the number of elements.
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
