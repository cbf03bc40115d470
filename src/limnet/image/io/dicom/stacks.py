"""Planes sorted into stacks, one for each volume that a series holds: by size, orientation, place and repetition.

A stack is checked to be a regular grid, and filled by interpolation where the user asks for it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError
from limnet.image.io.dicom.pixels import same_pixels
from limnet.image.io.dicom.planes import MARKS, TIMES, Plane, quiet

LOOSE = 0.1  # of a step: positions rounded to 0.1 mm in thin slices are off by nearly this much
STEEPEST = 1.0  # sideways for each mm along the normal: 45 degrees, and a gantry tilts 30 at most


@dataclass(frozen=True)
class Grid:
    """A regular grid through planes: affine (4, 4), index (x, y, z) -> mm (LPS), and `places`.

    These are for each slice of the grid its place among the planes: a fraction lies between two of them.
    """

    affine: NDArray[np.float64]
    places: NDArray[np.float64]

    @property
    def filled(self) -> tuple[int, ...]:
        """Slices of the grid that no plane shows."""
        return tuple(int(i) for i in np.flatnonzero(self.places != np.round(self.places)))


def is_regular(planes: Sequence[Plane]) -> bool:
    """Whether placed planes, in order, lie on one line, one step apart."""
    if len(planes) < 2:
        return True
    origins = np.array([plane.origin for plane in planes])
    numbers = np.arange(len(planes)) - (len(planes) - 1) / 2
    step = numbers @ origins / (numbers @ numbers)  # of the line nearest to all of them
    off = np.linalg.norm(origins - origins.mean(axis=0) - numbers[:, None] * step, axis=1).max()
    return bool(off <= LOOSE * np.linalg.norm(step)) and _across(step, planes[0]) <= STEEPEST


def make_grid(where: Path, planes: Sequence[Plane], fill: bool) -> Grid:
    """The regular grid of a stack; FileFormatError for uneven steps, gaps or stray slices, unless `fill` mends them."""
    first = planes[0]
    spacing = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = first.axes[:, 0] * spacing[1]
    affine[:3, 1] = first.axes[:, 1] * spacing[0]
    affine[:3, 3] = np.zeros(3) if first.origin is None else first.origin
    places = np.arange(len(planes), dtype=np.float64)
    if len(planes) == 1 or first.origin is None:
        affine[:3, 2] = first.axes[:, 2] * (first.thickness or 1.0)
        return Grid(affine, places)
    origins = np.array([plane.origin for plane in planes])
    affine[:3, 2] = (origins[-1] - origins[0]) / (len(planes) - 1)
    if is_regular(planes):
        return Grid(affine, places)
    if not fill:
        raise FileFormatError(
            f"the {len(planes)} slices of {where} make no regular grid: {_uneven(planes)}. A volume needs one step "
            'throughout: add missing slices, take out stray ones, or read with gaps="resample" (--gaps resample), '
            "which fills by interpolation and marks what it filled"
        )
    return _filled(where, planes, affine)


def resampled(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Slices of the grid from those of the planes, linear between two of them."""
    if not grid.filled:
        return array
    result = np.empty((len(grid.places), *array.shape[1:]), array.dtype)
    for i, place in enumerate(grid.places):
        low = int(place)
        part = place - low
        if part == 0:
            result[i] = array[low]
        else:
            between = array[low] * (1 - part) + array[low + 1] * part
            result[i] = between if array.dtype.kind == "f" else np.rint(between)
    return result


def _across(step: NDArray[np.float64], plane: Plane) -> float:
    """How far a step goes sideways, as a share of what it goes along the normal."""
    along = float(step @ plane.axes[:, 2])
    return float(np.linalg.norm(step - along * plane.axes[:, 2])) / abs(along)


def _usual(depths: NDArray[np.float64]) -> float:
    """The most frequent step in mm, the smaller one of equals."""
    gaps = np.diff(depths)
    counts = Counter({float(g): int((np.abs(gaps - g) <= LOOSE * g).sum()) for g in gaps})
    most = max(counts.values())
    usual = min(gap for gap, count in counts.items() if count == most)
    return float(np.median(gaps[np.abs(gaps - usual) <= LOOSE * usual]))


def _uneven(planes: Sequence[Plane]) -> str:
    """The steps that differ, by the names of the slices."""
    depths = np.array([plane.depth for plane in planes])
    usual, gaps = _usual(depths), np.diff(depths)
    odd = [
        f"{gap:.2f} mm between {one} and {two}"
        for gap, (one, two) in zip(gaps, itertools.pairwise(planes), strict=True)
        if abs(gap - usual) > LOOSE * usual
    ]
    if odd:
        return f"{', '.join(odd[:3])}{f' and {len(odd) - 3} more' if len(odd) > 3 else ''}, elsewhere {usual:.2f} mm"
    return f"steps of {gaps.min():.2f} to {gaps.max():.2f} mm that add up to a drift, or slices that lie sideways"


def _filled(where: Path, planes: Sequence[Plane], affine: NDArray[np.float64]) -> Grid:
    depths = np.array([plane.depth for plane in planes])
    step = _usual(depths)
    origins = np.array([plane.origin for plane in planes])
    direction = (origins[-1] - origins[0]) / (depths[-1] - depths[0])  # mm for each mm along the normal
    off = np.linalg.norm(origins - (origins[0] + (depths - depths[0])[:, None] * direction), axis=1)
    if off.max() > LOOSE * step or _across(direction, planes[0]) > STEEPEST:
        raise FileFormatError(
            f"slices of {where} lie up to {off.max():.2f} mm beside one line ({planes[int(off.argmax())]}): "
            "no grid goes through them. Take the stray slices out"
        )
    count = int(np.floor((depths[-1] - depths[0]) / step + LOOSE)) + 1
    wanted = depths[0] + step * np.arange(count)
    places = np.interp(wanted, depths, np.arange(len(planes)))
    nearest = np.abs(wanted[:, None] - depths[None, :])
    on = nearest.min(axis=1) <= LOOSE * step
    places[on] = nearest.argmin(axis=1)[on]
    made_up = int((~on).sum())
    if made_up > len(planes):
        raise FileFormatError(
            f"the {len(planes)} slices of {where} would leave {made_up} of {count} to be made up, more than there are: "
            f"{_uneven(planes)}. Take out stray slices, or add the missing ones"
        )
    affine = affine.copy()
    affine[:3, 2] = direction * step
    return Grid(affine, places)


TILT = 1e-3  # unit vectors that differ by less point alike: half a pixel at the far end of 512
SAME_PLACE = 0.01  # of a pixel: positions that are nearer than this are one position written twice


@dataclass(frozen=True)
class Stack:
    """Planes of one volume in slice order, each at a place of its own, and what tells it from the others."""

    planes: list[Plane]
    about: str

    def __str__(self) -> str:
        """One line for a person who has to choose."""
        first = self.planes[0]
        rows, columns = first.shape
        name = f"{len(self.planes)} {_facing(first)} slices of {rows} x {columns}"
        return f"{name}, {self.about}" if self.about else name


class Group(NamedTuple):
    """Planes that share the values `key` of the elements that tell groups apart."""

    key: tuple[Any, ...]
    planes: list[Plane]


def find_stacks(where: Path, planes: list[Plane]) -> tuple[list[Stack], list[str]]:
    """The volumes that a series holds, and warnings of planes that were left out.

    Raises FileFormatError for planes at one place that nothing tells apart.
    """
    kinds, notes = _largest_kinds(_kinds(planes))
    stacks: list[Stack] = []
    with quiet():
        for kind in kinds:
            if any(plane.origin is None for plane in kind):
                stacks.append(Stack(_by_number(where, kind), ""))
            else:
                kind, copies = _without_copies(kind)
                notes += copies
                found, more = _repetitions(where, kind)
                stacks += found
                notes += more
    return stacks, notes


def _kinds(planes: list[Plane]) -> list[list[Plane]]:
    """Planes of one size, pixel spacing and orientation, the most frequent kind first."""
    kinds: list[list[Plane]] = []
    for plane in planes:
        for kind in kinds:
            if _alike(kind[0], plane):
                kind.append(plane)
                break
        else:
            kinds.append([plane])
    return sorted(kinds, key=len, reverse=True)


def _alike(a: Plane, b: Plane) -> bool:
    if a.shape != b.shape or (a.spacing is None) != (b.spacing is None) or (a.origin is None) != (b.origin is None):
        return False
    if a.spacing is not None and b.spacing is not None:
        reach = max(abs(p - q) * n for p, q, n in zip(a.spacing, b.spacing, a.shape, strict=True))
        if reach > 0.5 * min(a.spacing):  # half a pixel at the far end
            return False
    return bool(np.abs(a.axes - b.axes).max() < TILT)


def _largest_kinds(kinds: list[list[Plane]]) -> tuple[list[list[Plane]], list[str]]:
    """Without a few scouts beside a stack twice as large; several stacks of one rank all stay."""
    others = sum(len(kind) for kind in kinds[1:])
    if not others or len(kinds[0]) < 2 * others:
        return kinds, []
    names = _names([plane for kind in kinds[1:] for plane in kind])
    total = others + len(kinds[0])
    return kinds[:1], [f"{others} of {total} slices have another size or orientation, left out: {names}"]


def _by_number(where: Path, planes: list[Plane]) -> list[Plane]:
    """Planes without positions, in order of instance numbers and frames."""
    ordered = sorted(planes, key=lambda p: (p.instance, p.frame))
    for one, two in itertools.pairwise(ordered):
        if (one.instance, one.frame) == (two.instance, two.frame):
            raise FileFormatError(
                f"slices of {where} have no position, and {one} and {two} the same instance number {one.instance}: "
                "their order cannot be told. Export the series again, with positions"
            )
    return ordered


def _places(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes by position along the normal, in ascending order."""
    near = SAME_PLACE * min(planes[0].spacing or (1.0, 1.0))
    places: list[list[Plane]] = []
    for plane in sorted(planes, key=lambda p: (p.depth, p.instance, p.file.name, p.frame)):
        if places and plane.depth - places[-1][-1].depth <= near:
            places[-1].append(plane)
        else:
            places.append([plane])
    return places


def _without_copies(planes: list[Plane]) -> tuple[list[Plane], list[str]]:
    """Planes without copies of the same slice in other files; a copy is no time point."""
    kept: list[Plane] = []
    copies: list[tuple[Plane, Plane]] = []
    for place in _places(planes):
        originals: dict[Hashable, list[Plane]] = defaultdict(list)  # by instance number: few are compared
        for plane in place if len(place) > 1 else ():
            twins = originals[plane.instance]
            twin = next((twin for twin in twins if _is_copy(twin, plane)), None)
            if twin is None:
                twins.append(plane)
            else:
                copies.append((plane, twin))
        gone = {id(plane) for plane, _ in copies}
        kept += [plane for plane in place if id(plane) not in gone]
    if not copies:
        return planes, []
    plane, twin = copies[0]
    more = f" and {len(copies) - 1} more" if len(copies) > 1 else ""
    return kept, [f"{plane} is a copy of {twin}{more}: copies are left out"]


def _is_copy(one: Plane, two: Plane) -> bool:
    """Whether two planes of one place and instance number, in two files, are one and the same."""
    if one.file == two.file or one.frame != two.frame:
        return False
    same = one.header.get("SOPInstanceUID") == two.header.get("SOPInstanceUID") or all(
        _value(one, name) == _value(two, name) for name in (*MARKS, *TIMES)
    )
    return same and same_pixels(one, two)


def _repetitions(where: Path, planes: list[Plane]) -> tuple[list[Stack], list[str]]:
    """Stacks with one plane for each place, in an order that users can rely on."""
    groups, used, notes = _told_apart(where, planes)
    if len(groups) == 1 and not is_regular(_flat(planes)):
        groups, used = _regular_parts(planes) or (groups, used)
    groups.sort(key=lambda group: [_sortable(value) for value in group.key])
    return [Stack(_flat(group.planes), ", ".join(_words(used, group.key))) for group in groups], notes


def _told_apart(where: Path, planes: list[Plane]) -> tuple[list[Group], list[str], list[str]]:
    """Groups in which no place repeats, the elements that tell them apart, and notes."""
    groups, used = [Group((), planes)], list[str]()
    most = max(len(place) for place in _places(planes))
    if most == 1:
        return groups, used, []
    for name, classes in _marks(planes):
        split = _refined(groups, classes)
        if len(split) <= most and _clashes(split) < _clashes(groups):
            groups, used = split, [*used, name]
        if not _clashes(groups):
            return groups, used, []
    for name in TIMES:
        ranked = _ranked(groups, name)
        if ranked is not None:
            return ranked, [*used, name], []
    single = [Group(key, _flat(part)) for key, part in groups]
    if all(same_pixels(place[0], other) for _, part in groups for place in _places(part) for other in place[1:]):
        return single, used, [f"{_clashes(groups)} of {len(planes)} slices are copies of others, left out"]
    ranked = _ranked(groups, "InstanceNumber")
    if ranked is None:
        raise _clash(where, groups)
    return ranked, [*used, "InstanceNumber"], []


def _regular_parts(planes: list[Plane]) -> tuple[list[Group], list[str]] | None:
    """A split into regular stacks by one element, such as two acquisitions that overlap."""
    for name, classes in _marks(planes):
        split = _refined([Group((), planes)], classes)
        if 1 < len(split) <= len(planes) // 2 and all(is_regular(_flat(group.planes)) for group in split):
            return split, [name]
    return None


def _flat(planes: Sequence[Plane]) -> list[Plane]:
    return [place[0] for place in _places(planes)]


def _clashes(groups: Sequence[Group]) -> int:
    """How many planes lie where another of their group lies already."""
    return sum(len(place) - 1 for group in groups for place in _places(group.planes))


def _refined(groups: Sequence[Group], classes: dict[Plane, Hashable]) -> list[Group]:
    parts: dict[tuple[Any, ...], list[Plane]] = defaultdict(list)
    for key, planes in groups:
        for plane in planes:
            whole = (*key, classes[plane])
            parts[whole].append(plane)
    return [Group(key, part) for key, part in parts.items()]


def _marks(planes: Sequence[Plane]) -> list[tuple[str, dict[Plane, Hashable]]]:
    """Elements of which the planes have several values, numbers that hardly differ taken as one."""
    found: list[tuple[str, dict[Plane, Hashable]]] = []
    depth = max((len(p.header.get("DimensionIndexValues") or []) for p in planes), default=0)
    for name in [*MARKS, *(f"DimensionIndexValues {i + 1}" for i in range(depth))]:
        values = {plane: _value(plane, name) for plane in planes}
        classes = _classes(set(values.values()))
        if len(set(classes.values())) > 1:
            found.append((name, {plane: classes[value] for plane, value in values.items()}))
    return found


def _classes(values: set[Hashable]) -> dict[Hashable, Hashable]:
    """Value -> value that stands for its class: numbers closer than a thousandth are one."""
    result: dict[Hashable, Hashable] = {value: value for value in values}
    leader: float | None = None
    for number in sorted(v for v in values if isinstance(v, float)):
        if leader is None or number - leader > 1e-3 * max(1.0, abs(leader)):
            leader = number
        result[number] = leader
    return result


def _ranked(groups: Sequence[Group], name: str) -> list[Group] | None:
    """Groups split by the order of `name` at each place; None unless that is clear everywhere."""
    result: list[Group] = []
    for key, planes in groups:
        places = _places(planes)
        if len({len(place) for place in places}) > 1:
            return None
        ordered = []
        for place in places:
            values = {plane: _value(plane, name) for plane in place}
            if None in values.values() or len(set(values.values())) < len(place):
                return None
            ordered.append(sorted(place, key=lambda plane: _sortable(_value(plane, name))))
        volumes = list(zip(*ordered, strict=True))
        if name == "InstanceNumber" and not _in_turn([[plane.instance for plane in v] for v in volumes]):
            return None
        result += [Group((*key, rank), list(volume)) for rank, volume in enumerate(volumes, start=1)]
    return result


def _in_turn(numbers: list[list[int]]) -> bool:
    """Whether volumes are numbered one after the other, or place by place with the same step throughout."""
    spans = sorted((min(volume), max(volume)) for volume in numbers)
    apart = all(a[1] < b[0] for a, b in itertools.pairwise(spans))
    offsets = {tuple(n - place[0] for n in place) for place in zip(*numbers, strict=True)}
    return apart or len(offsets) == 1


def _clash(where: Path, groups: Sequence[Group]) -> FileFormatError:
    """What to say of planes at one place that nothing tells apart."""
    places = next(p for p in (_places(group.planes) for group in groups) if any(len(place) > 1 for place in p))
    counts = Counter(len(place) for place in places)
    place = next(place for place in places if len(place) > 1)
    at = f"at {place[0].depth:.2f} mm along the slice normal"
    if len(counts) > 1:
        odd = min(counts, key=lambda count: counts[count])
        names = _names([plane for p in places if len(p) == odd for plane in p])
        return FileFormatError(
            f"the series in {where} has {sum(map(len, places))} slices at {len(places)} positions, some repeated and "
            f"some not: {'; '.join(f'{n} positions hold {c}' for c, n in sorted(counts.items()))}; look at {names}. "
            "Add what is missing, or copy the slices of one volume to a folder of their own"
        )
    return FileFormatError(
        f"{place[0]} and {place[1]} of {where} are different slices {at}, and nothing in their headers tells the two "
        "volumes apart (acquisition number and time, echo, time point, trigger time, b-value, image type). "
        "Copy the slices of one volume to a folder of their own"
    )


def _value(plane: Plane, name: str) -> Hashable:
    """An element as something to compare: a float, a text, or a tuple of them; None where it is missing."""
    if name == "InstanceNumber":
        return plane.instance
    if name.startswith("DimensionIndexValues "):
        indices = plane.header.get("DimensionIndexValues") or []
        place = int(name.split()[1])
        return float(indices[place - 1]) if len(indices) >= place else None
    value = plane.header.get(name)
    if name == "AcquisitionTime" and value not in (None, ""):
        return f"{plane.header.get('AcquisitionDate') or ''} {value}"
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    try:
        parts = tuple(float(v) for v in np.atleast_1d(np.asarray(value, dtype=np.float64)))
    except (TypeError, ValueError):
        return tuple(str(v) for v in value) if not isinstance(value, (bytes, bytearray)) else bytes(value)
    return parts[0] if len(parts) == 1 else parts


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers before texts, nothing first."""
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, (int, float)) else (2, 0.0, str(value))


def _words(names: Sequence[str], key: tuple[Any, ...]) -> list[str]:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:g}"
        return "\\".join(map(str, value)) if isinstance(value, tuple) else str(value)

    ranks = (*TIMES, "InstanceNumber")
    return [
        f"number {value} by {name}" if name in ranks else f"{name} {shown(value)}"
        for name, value in zip(names, key, strict=True)
    ]


def _facing(plane: Plane) -> str:
    """Axial, coronal or sagittal where the position is known, within 45 degrees."""
    if plane.origin is None:
        return "unplaced"
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(plane.axes[:, 2])))]


def _names(planes: Sequence[Plane]) -> str:
    shown = ", ".join(str(plane) for plane in planes[:5])
    return f"{shown} ..." if len(planes) > 5 else shown
