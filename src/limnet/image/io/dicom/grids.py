"""A stack of planes as a regular grid: checked, and filled by interpolation where the user asks for it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError
from limnet.image.io.dicom.planes import Plane

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
