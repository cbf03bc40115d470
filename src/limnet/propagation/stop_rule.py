"""When a pass ends before the volume does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from limnet.settings import Settings

Slice = NDArray[np.float32]

SURE_BEYOND = 0.75  # mean probability of a mask from which on it counts where nobody expects the object
DOUBT = 0.15  # masks that are surer than needed by less than this are propagated slice by slice


class StopRule:
    """Ends a pass: behind an empty prompted slice, after empty slices, and where it leaks.

    A pass may only leak where no prompted slice ahead holds the object: it ends at a mask that is unsure of itself, or
    that is much larger than all prompted ones; outside the through-plane extent of the object it has to be very sure.

    Args:
        settings: `stop_after_empty`, `least_sure` and `most_growth`.
        prompts: All prompted slices with their masks of 0 and 1, one with object at least.
        direction: Of the pass, 1 or -1.
        extent: First and last slice of the object as known, or None.
    """

    def __init__(
        self, settings: Settings, prompts: Mapping[int, Slice], direction: int, extent: tuple[int, int] | None
    ) -> None:
        self.settings, self.direction, self.extent, self.empty = settings, direction, extent, 0
        self.last = max(i * direction for i, mask in prompts.items() if mask.any())
        self.most = settings.most_growth * max(_area(mask) for mask in prompts.values()) or math.inf

    def at_prompt(self, mask: Slice) -> bool:
        """Whether a prompted slice ends the pass: the user said that there is no object on it."""
        self.empty = 0
        return not mask.any()

    def leaks(self, index: int, mask: Slice) -> tuple[bool, bool]:
        """Whether a mask (H, W) leaks, and whether it nearly does: then slices skipped before it may."""
        if index * self.direction <= self.last:
            return False, False
        beyond = self.extent is not None and not self.extent[0] <= index <= self.extent[1]
        least = max(self.settings.least_sure, SURE_BEYOND) if beyond else self.settings.least_sure
        inside = mask[mask > 0.5]
        sure = float(inside.mean()) if len(inside) else 1.0
        leaks = sure < least or len(inside) > self.most
        return leaks, leaks or sure < least + DOUBT

    def after(self, mask: Slice, slices: int) -> bool:
        """Whether the pass ends after a mask (H, W), which is `slices` farther than the one before."""
        self.empty = 0 if (mask > 0.5).any() else self.empty + slices
        return 0 < self.settings.stop_after_empty <= self.empty


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


def _area(mask: Slice) -> int:
    return int(np.count_nonzero(mask > 0.5))
