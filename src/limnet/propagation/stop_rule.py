"""When a pass ends before the volume does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Slice = NDArray[np.float32]


class StopRule:
    """Ends a pass behind an empty prompted slice, and after `stop_after_empty` empty slices (0: only at the end)."""

    def __init__(self, stop_after_empty: int) -> None:
        self.most, self.empty = stop_after_empty, 0

    def at_prompt(self, mask: Slice) -> bool:
        """Whether a prompted slice ends the pass: the user said that there is no object on it."""
        self.empty = 0
        return not mask.any()

    def after(self, mask: Slice) -> bool:
        """Whether the pass ends after a mask (H, W)."""
        self.empty = 0 if (mask > 0.5).any() else self.empty + 1
        return 0 < self.most <= self.empty


def emptied(
    prompts: Mapping[int, Slice], origin: int, other: int | None, known: Callable[[int], Slice], depth: int
) -> range:
    """Slices between two prompted ones that the emptied one of the two leaves without object; `known` as below."""
    if other is None or prompts[origin].any() == prompts[other].any():
        return range(0)
    filled, empty = (origin, other) if prompts[origin].any() else (other, origin)
    step = 1 if empty > filled else -1
    return range(end_before_empty(known, filled, empty, depth) + step, empty, step)


def end_before_empty(known: Callable[[int], Slice], filled: int, empty: int, depth: int) -> int:
    """Last slice on which the object may lie between a prompted slice and one the user has emptied.

    A pass that leaked through the emptied slice once would leak again. People click in the middle of what is wrong: if
    the old mask reaches from the emptied slice on to slice F, the error began about as far on the near side; never more
    than half of the way to the filled slice is taken away. Where the slices behind are empty already (an earlier
    correction), the object keeps the end it has.

    Args:
        known: Gives the (H, W) result so far of a slice.
        filled: Prompted slice with object.
        empty: Prompted slice without.
        depth: Number of slices of the volume.

    Returns:
        Index from `filled` (included) to the slice before `empty`.
    """
    step = 1 if empty > filled else -1
    far = empty
    while 0 <= far + step < depth and (known(far + step) > 0.5).any():
        far += step
    if far != empty:
        reach = min(abs(far - empty), abs(empty - filled) // 2)
        return empty - step * max(reach, 1)
    before = [i for i in range(filled + step, empty, step) if (known(i) > 0.5).any()]
    return before[-1] if before else empty - step
