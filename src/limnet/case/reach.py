"""How far prompts reach: an empty prompted slice says that the object ends there."""

from __future__ import annotations

from collections.abc import Mapping


def supported(
    filled: Mapping[int, bool], depth: int, anchor: int | None = None, bounds: tuple[int, int] | None = None
) -> set[int]:
    """Slices on which the object may lie.

    A stretch of slices between two neighbouring prompted ones (or an end of the volume) can hold object only if one of
    its two prompted slices does, or if it contains the anchor of a starting mask.

    Args:
        filled: Prompted slices; False for an empty mask.
        depth: Number of slices.
        anchor: A slice known to hold the object without a prompt.
        bounds: First and last slice allowed, or None.

    Returns:
        Indices, prompted slices included.
    """
    held = dict(filled)
    if anchor is not None:
        held.setdefault(anchor, True)
    result = set(filled)
    marks = sorted(held)
    for low, high in zip([-1, *marks], [*marks, depth], strict=True):
        if held.get(low, False) or held.get(high, False):
            result.update(range(low + 1, high))
    if anchor is not None:
        result.add(anchor)
    if bounds is not None:
        result = {i for i in result if bounds[0] <= i <= bounds[1] or i in filled}
    return result


def separated(filled: Mapping[int, bool], origin: int, depth: int) -> range:
    """Slices around `origin` up to the nearest empty prompted slice on each side (those excluded)."""
    stops = [i for i, full in filled.items() if not full and i != origin]
    low = max((i for i in stops if i < origin), default=-1)
    high = min((i for i in stops if i > origin), default=depth)
    return range(low + 1, high)


def between(filled: Mapping[int, bool], origin: int, depth: int) -> range:
    """Slices around `origin` up to the nearest other prompted slice on each side (those excluded).

    An empty origin reaches only towards a prompted slice that is not empty.
    """
    low = max((i for i in filled if i < origin), default=-1)
    high = min((i for i in filled if i > origin), default=depth)
    if not filled[origin]:
        low = low if filled.get(low, False) else origin - 1
        high = high if filled.get(high, False) else origin + 1
    return range(low + 1, high)
