"""What a user can mark: clicks, scribbles, boxes, lassos and masks, checked and JSON-able.

Coordinates are voxel indices in the volume's own axis order (z, y, x) = (axis 0, axis 1, axis 2), integers from 0. A
prompt lies on one slice of the case's axis; `on_slices` gives its part on that slice as a `Prompt2D`, with (y, x) the
two remaining axes in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError, OutsideError
from limnet.image.slices import BitMask

Point3 = tuple[int, int, int]
Kind = Literal["click", "scribble", "box", "lasso", "mask"]


@dataclass(frozen=True)
class Prompt2D:
    """A prompt restricted to one slice.

    Attributes:
        kind: "click", "scribble", "box", "lasso" or "mask".
        positive: Object (True) or background (False).
        points: (y, x) pixels: one for a click, the stroke for a scribble, (lo, hi) inclusive for a box, the outline for
            a lasso.
        mask: Pixels of a painted scribble or of a mask prompt, shape (H, W); None otherwise.
    """

    kind: Kind
    positive: bool = True
    points: tuple[tuple[int, int], ...] = ()
    mask: BitMask | None = None


@dataclass(frozen=True)
class Click:
    """One voxel that belongs to the object (positive) or not (negative).

    >>> Click((3, 30, 32)).on_slices(shape=(7, 64, 64), axis=0)
    [(3, Prompt2D(kind='click', positive=True, points=((30, 32),), mask=None))]
    """

    point: Point3
    positive: bool = True
    kind: ClassVar[Kind] = "click"

    def __post_init__(self) -> None:
        object.__setattr__(self, "point", _point(self.point, "a click"))
        object.__setattr__(self, "positive", _flag(self.positive))

    def on_slices(self, shape: Sequence[int], axis: int) -> list[tuple[int, Prompt2D]]:
        """[(slice index, prompt)]; OutsideError if the voxel is not in a volume of `shape`."""
        _inside(self.point, shape, "a click")
        index, pixel = _split(self.point, axis)
        return [(index, Prompt2D("click", self.positive, (pixel,)))]


@dataclass(frozen=True)
class Scribble:
    """A stroke: either a polyline through `points`, or painted voxels `mask` of the whole volume's shape.

    >>> Scribble.of([(3, 25, 25), (3, 36, 38)], positive=False)
    Scribble(points=((3, 25, 25), (3, 36, 38)), positive=False, mask=None)
    """

    points: tuple[Point3, ...] = ()
    positive: bool = True
    mask: BitMask | None = None
    kind: ClassVar[Kind] = "scribble"

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _points(self.points, "a scribble"))
        object.__setattr__(self, "positive", _flag(self.positive))
        if self.mask is None and not self.points:
            raise InputError("an empty scribble marks nothing: give at least one (z, y, x) point or one painted voxel")
        if self.mask is not None:
            if self.points:
                raise InputError("a scribble is given by points or by a mask, not by both")
            if len(self.mask.shape) != 3:
                raise InputError(f"the mask of a scribble needs the volume's (D, H, W) shape, not {self.mask.shape}")
            if not self.mask.count:
                raise InputError("an empty scribble marks nothing: paint at least one voxel")

    @classmethod
    def of(cls, points_or_mask: Any, positive: bool = True) -> Scribble:
        """From (N, 3) integer points, or from a boolean (D, H, W) array."""
        array = _as_array(points_or_mask)
        if array is not None and (array.ndim >= 3 or array.dtype == bool):
            return cls(positive=positive, mask=BitMask.of(array))
        return cls(points=points_or_mask, positive=positive)

    def on_slices(self, shape: Sequence[int], axis: int) -> list[tuple[int, Prompt2D]]:
        """[(slice index, prompt)], lowest first: on every slice the part of the stroke that lies on it."""
        if self.mask is not None:
            _same_shape(self.mask.shape, shape, "the mask of a scribble")
            return _painted(np.moveaxis(self.mask.array(), axis, 0), self.positive)
        for point in self.points:
            _inside(point, shape, "a scribble point")
        indices = {p[axis] for p in self.points}
        if len(indices) == 1:
            pixels = tuple(_split(p, axis)[1] for p in self.points)
            return [(indices.pop(), Prompt2D("scribble", self.positive, pixels))]
        voxels = np.zeros(tuple(int(n) for n in shape[:3]), dtype=bool)
        voxels[tuple(_line(self.points).T)] = True
        return _painted(np.moveaxis(voxels, axis, 0), self.positive)

    def voxels(self, shape: Sequence[int]) -> NDArray[np.intp]:
        """(N, 3) indices of its voxels in a volume of a shape; InputError if it does not fit."""
        if self.mask is not None:
            _same_shape(self.mask.shape, shape, "the mask of a scribble")
            return self.mask.places()
        for point in self.points:
            _inside(point, shape, "a scribble point")
        return _line(self.points)


@dataclass(frozen=True)
class Box:
    """The object lies between the corners `lo` and `hi`, both (z, y, x) and both inside the box (inclusive).

    A box that is one voxel thick along the case's axis is a 2-D box on that slice. A thicker box is used as a prompt on
    its middle slice, and the object is empty on every slice outside its range.

    >>> Box((1, 11, 13), (5, 49, 51)).range_along(axis=0)
    (1, 5)
    """

    lo: Point3
    hi: Point3
    kind: ClassVar[Kind] = "box"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lo", _point(self.lo, "the lower corner of a box"))
        object.__setattr__(self, "hi", _point(self.hi, "the upper corner of a box"))
        if any(a > b for a, b in zip(self.lo, self.hi, strict=True)):
            raise InputError(
                f"box with lo {self.lo} > hi {self.hi}: every coordinate of lo must be <= that of hi; "
                "swap the ones that are not"
            )

    def on_slices(self, shape: Sequence[int], axis: int) -> list[tuple[int, Prompt2D]]:
        """[(middle slice, 2-D box)]; OutsideError if a corner is not in a volume of `shape`."""
        _inside(self.lo, shape, "the lower corner of a box")
        _inside(self.hi, shape, "the upper corner of a box")
        corners = (_split(self.lo, axis)[1], _split(self.hi, axis)[1])
        return [((self.lo[axis] + self.hi[axis]) // 2, Prompt2D("box", True, corners))]

    def range_along(self, axis: int) -> tuple[int, int] | None:
        """First and last slice (inclusive) the object may occupy; None for a flat box, which bounds nothing."""
        lo, hi = self.lo[axis], self.hi[axis]
        return None if lo == hi else (lo, hi)


@dataclass(frozen=True)
class Lasso:
    """A closed outline on one slice, loosely around the object (positive) or around what is not object (negative).

    >>> outline = Lasso([(3, 10, 10), (3, 10, 50), (3, 50, 30)])
    >>> [index for index, part in outline.on_slices(shape=(7, 64, 64), axis=0)]
    [3]
    """

    points: tuple[Point3, ...]
    positive: bool = True
    kind: ClassVar[Kind] = "lasso"

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _points(self.points, "a lasso"))
        object.__setattr__(self, "positive", _flag(self.positive))
        if len(set(self.points)) < 3:
            raise InputError(f"a lasso needs at least 3 different (z, y, x) points, got {len(set(self.points))}")

    def on_slices(self, shape: Sequence[int], axis: int) -> list[tuple[int, Prompt2D]]:
        """[(slice index, prompt)]; InputError unless the outline lies on one slice along `axis`, around an area."""
        for point in self.points:
            _inside(point, shape, "a lasso point")
        index, *others = sorted({p[axis] for p in self.points})
        if others:
            touched = f"{[index, *others][:6]}{'...' if len(others) > 5 else ''}"
            raise InputError(
                f"a lasso must lie on one slice along axis {axis}, but touches the slices {touched}: draw it on one "
                "slice, or on one plane across the slices"
            )
        pixels = tuple(_split(p, axis)[1] for p in self.points)
        (y0, x0), *rest = pixels
        (y1, x1) = next(p for p in rest if p != (y0, x0))
        if all((y1 - y0) * (x - x0) == (x1 - x0) * (y - y0) for y, x in rest):
            raise InputError("the points of a lasso lie on one line and enclose nothing: draw around an area")
        return [(index, Prompt2D("lasso", self.positive, pixels))]


@dataclass(frozen=True)
class MaskPrompt:
    """A mask stated by the user: one slice (`mask` (H, W) with its `index`) or the volume (`mask` (D, H, W)).

    In a (D, H, W) mask every slice that is not empty is stated; if those are two or more without a gap, they are taken
    as the whole object and the slices right beyond its ends are stated to be empty. With `frozen=False` nothing is
    stated: the mask is a starting result that later rounds may change (from another program, to be corrected).

    >>> stated = MaskPrompt(ball)
    >>> [index for index, part in stated.on_slices(shape=(7, 64, 64), axis=0)]
    [0, 1, 2, 3, 4, 5, 6]
    """

    mask: BitMask
    index: int | None = None
    frozen: bool = True
    kind: ClassVar[Kind] = "mask"

    def __post_init__(self) -> None:
        if not isinstance(self.mask, BitMask):
            object.__setattr__(self, "mask", BitMask.of(mask_array(self.mask)))
        object.__setattr__(self, "frozen", _flag(self.frozen, "frozen"))
        ndim = len(self.mask.shape)
        if ndim == 2:
            if self.index is None:
                raise InputError("a 2-D mask needs the slice it belongs to: set_mask(mask, index=12)")
            object.__setattr__(self, "index", _integer(self.index, "the slice index of a mask"))
            if not self.frozen:
                raise InputError("frozen=False is for (D, H, W) masks; a single slice is always a prompt")
        elif ndim == 3:
            if self.index is not None:
                raise InputError("a (D, H, W) mask knows its slices: leave index out, or give mask[index]")
        else:
            raise InputError(f"a mask prompt is (H, W) with an index, or (D, H, W); got the shape {self.mask.shape}")

    def on_slices(self, shape: Sequence[int], axis: int) -> list[tuple[int, Prompt2D]]:
        """[(slice index, prompt)] of the slices it states, lowest first.

        Raises:
            InputError: an empty volume, or a mask of another shape than the slices.
            OutsideError: an index beyond the last slice.
        """
        depth = int(shape[axis])
        if self.index is not None:
            expected = tuple(int(n) for a, n in enumerate(shape) if a != axis)
            if self.mask.shape != expected:
                raise InputError(f"mask of shape {self.mask.shape}, but slices along axis {axis} are {expected}")
            if not 0 <= self.index < depth:
                raise OutsideError(
                    f"slice {self.index} is outside the volume: axis {axis} has the slices 0..{depth - 1}"
                )
            return [(self.index, Prompt2D("mask", mask=self.mask))]
        _same_shape(self.mask.shape, shape, "a mask")
        array = np.moveaxis(self.mask.array(), axis, 0)
        filled = np.flatnonzero(array.any(axis=(1, 2))).tolist()
        if not filled:
            raise InputError(
                "an empty mask states nothing: to say that the object is absent on a slice, give that slice as (H, W) "
                "with index=; to start again use reset()"
            )
        stated = list(filled)
        if len(filled) > 1 and filled[-1] - filled[0] == len(filled) - 1:
            stated = list(range(max(filled[0] - 1, 0), min(filled[-1] + 1, depth - 1) + 1))
        return [(i, Prompt2D("mask", mask=BitMask.of(array[i]))) for i in stated]


Prompt = Click | Scribble | Box | Lasso | MaskPrompt


def _painted(stack: NDArray[np.bool_], positive: bool) -> list[tuple[int, Prompt2D]]:
    touched = np.flatnonzero(stack.any(axis=(1, 2))).tolist()
    return [(i, Prompt2D("scribble", positive, mask=BitMask.of(stack[i]))) for i in touched]


def _line(points: Sequence[Point3]) -> NDArray[np.intp]:
    """(N, 3) indices of the voxels of a line through points."""
    path = np.asarray(points, dtype=np.float64)
    parts = [path]
    for start, end in pairwise(path):
        steps = int(np.abs(end - start).max()) + 1
        parts.append(start + (end - start) * np.linspace(0, 1, steps)[:, None])
    return np.unique(np.rint(np.concatenate(parts)).astype(np.intp), axis=0)


def _point(value: Any, what: str) -> Point3:
    if isinstance(value, (str, bytes, dict, set)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
        raise InputTypeError(f"{what} needs 3 integer voxel coordinates (z, y, x), got {_show(value)}")
    items = _listed(value)
    if len(items) != 3:
        raise InputError(f"{what} needs 3 coordinates (z, y, x), got {len(items)}: {_show(value)}")
    z, y, x = (_integer(item, f"a coordinate of {what}") for item in items)
    return z, y, x


def _points(value: Any, what: str) -> tuple[Point3, ...]:
    if isinstance(value, (str, bytes, dict, set)) or not hasattr(value, "__iter__"):
        raise InputTypeError(f"{what} needs a sequence of (z, y, x) points, got {_show(value)}")
    items = _listed(value)
    if len(items) == 3 and all(map(_is_single, items)) and what != "a lasso":
        items = [items]  # a single point
    return tuple(_point(item, f"point {i} of {what}") for i, item in enumerate(items))


def _is_single(value: Any) -> bool:
    return value.ndim == 0 if isinstance(value, np.ndarray) else not hasattr(value, "__len__")


def _integer(value: Any, what: str) -> int:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        hint = "round it to a voxel, int(round(value))" if np.isfinite(value) else "it is no finite number"
        raise InputTypeError(f"{what} is {value!r}; voxel indices are integers: {hint}. For millimetres convert first")
    raise InputTypeError(f"{what} is {_show(value)} ({type(value).__name__}); voxel indices are integers")


def _flag(value: Any, what: str = "positive") -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InputTypeError(f"{what} must be True or False, got {_show(value)}")


def _inside(point: Point3, shape: Sequence[int], what: str) -> None:
    if any(not 0 <= p < n for p, n in zip(point, shape, strict=False)):
        allowed = ", ".join(f"{name} 0..{n - 1}" for name, n in zip("zyx", shape, strict=False))
        raise OutsideError(
            f"{what} at {point} is outside the volume of shape {tuple(shape)[:3]}: allowed are {allowed}"
        )


def _split(point: Point3, axis: int) -> tuple[int, tuple[int, int]]:
    y, x = (point[a] for a in range(3) if a != axis)
    return point[axis], (y, x)


def _same_shape(got: tuple[int, ...], shape: Sequence[int], what: str) -> None:
    expected = tuple(int(n) for n in shape)[:3]
    if got != expected:
        raise InputError(
            f"{what} has the shape {got}, the volume has {expected}: give one value per voxel, same axis order"
        )


def _as_array(value: Any) -> NDArray[Any] | None:
    try:
        return np.asarray(value)
    except ValueError:  # ragged
        return None


def mask_array(value: Any) -> NDArray[Any]:
    """A mask as given by a user as an array; InputTypeError if it is none."""
    array = _as_array(value)
    if array is None or array.dtype == object:
        raise InputTypeError(f"a mask must be a boolean array, got {_show(value)}")
    return array


def _listed(value: Any) -> list[Any]:
    """The items; arrays and tensors as plain numbers."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return list(plain) if hasattr(plain, "__iter__") else [plain]


def _show(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """One prompt as a dictionary of plain values, with its kind under "type"."""
    data: dict[str, Any] = {"type": prompt.kind, **vars(prompt)}
    if isinstance(mask := data.get("mask"), BitMask):
        data["mask"] = mask.to_json()
    if isinstance(prompt, Scribble):
        del data["mask" if prompt.mask is None else "points"]
    return data


def prompt_from_json(data: Any) -> Prompt:
    """Read one prompt; every value is checked as if a user had typed it.

    Raises:
        InputError: for an unknown type, missing or unknown keys, or values the prompt itself refuses.
    """
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(
            f'a prompt in JSON is an object with "type" one of {", ".join(_KINDS)}; got {str(data)[:80]!r}'
        )
    given = {key: value for key, value in data.items() if key != "type"}
    known = {field.name: field.default is MISSING for field in fields(_KINDS[kind])}
    required, optional = ({name for name, needed in known.items() if needed is wanted} for wanted in (True, False))
    if not required <= set(given) <= set(known):
        raise InputError(
            f"a {kind} in JSON needs {', '.join(sorted(required)) or 'nothing'} "
            f"and may have {', '.join(sorted(optional)) or 'nothing else'}; "
            f"got {', '.join(sorted(map(str, given))) or 'nothing'}"
        )
    if "mask" in given and not (kind == "scribble" and given["mask"] is None):
        given["mask"] = BitMask.from_json(given["mask"])
    return _KINDS[kind](**given)


_KINDS: dict[str, type[Prompt]] = {kind.kind: kind for kind in (Click, Scribble, Box, Lasso, MaskPrompt)}
