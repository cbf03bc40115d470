"""Which prompted slices a slice lies between, and how far an object reaches beyond its outermost prompted slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.propagation.propagator import end_before_empty
from limnet.reach import between
from limnet.slice_view import SliceView

Slice = NDArray[np.float32]


class Span(NamedTuple):
    """Slices to fill on one side of a prompted slice.

    Attributes:
        start: prompted slice that holds object.
        other: the next prompted slice with object on that side, or None.
        slices: the slices to fill, going away from `start`; without `other` those the object may reach at all.
        limited: whether `slices` was cut short by a prompted slice without object.
    """

    start: int
    other: int | None
    slices: range
    limited: bool


def spans(prompts: Mapping[int, Slice], origin: int, depth: int, known: Callable[[int], Slice]) -> Iterator[Span]:
    """Yield what has to be filled anew after slice `origin` was prompted (scope "interval").

    Args:
        prompts: prompted slices with their (H, W) probabilities.
        origin: the slice prompted last.
        depth: number of slices.
        known: gives the current result of a slice; tells where the object ended so far.
    """
    filled = {i: bool((p > 0.5).any()) for i, p in prompts.items()}
    reach = between(filled, origin, depth)
    for low, high in ((reach.start - 1, origin), (origin, reach.stop)):
        inside = range(low + 1, high)
        if not inside:
            continue
        if filled.get(low, False) and filled.get(high, False):
            yield Span(low, high, inside, False)
        elif filled.get(low, False):
            yield _open(low, high, filled, known, depth)
        elif filled.get(high, False):
            yield _open(high, low, filled, known, depth)


def equivalent_radius(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> float:
    """Radius in mm of the disk with the area of an (H, W) mask."""
    return float(np.sqrt(np.count_nonzero(mask) * spacing[0] * spacing[1] / np.pi))


def area_radius(view: SliceView, mask: NDArray[np.bool_]) -> float:
    """`equivalent_radius` on the slices of a view."""
    rows, columns = view.spacing
    return equivalent_radius(mask, (rows, columns))


def _open(start: int, stop: int, filled: Mapping[int, bool], known: Callable[[int], Slice], depth: int) -> Span:
    """Side of `start` without another filled prompt; `stop` is an empty prompted slice or the end of the volume."""
    step = 1 if stop > start else -1
    if stop not in filled:
        return Span(start, None, range(start + step, stop, step), False)
    last = end_before_empty(known, start, stop, depth)
    return Span(start, None, range(start + step, last + step, step), True)
