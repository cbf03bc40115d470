"""A click corrects one kind of error: on other slices a positive one only adds, a negative one only takes away.

A round computes the slices around the click anew, and what comes out differs everywhere from what was there, mostly by
chance: where the user said that something is missing, nothing else has to go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from limnet.case.engine import Slice
from limnet.case.history import ObjectState
from limnet.image.slices import SliceMask, Slices, unpack


def sign_of(state: ObjectState) -> bool | None:
    """Whether the pending prompts are positive clicks (True) or negative ones (False); None for anything else."""
    newest = [state.prompts[index][-1] for index in state.pending]
    signs = {prompt.positive for prompt in newest} if all(prompt.kind == "click" for prompt in newest) else set()
    return signs.pop() if len(signs) == 1 else None


def one_sided(
    positive: bool,
    before: Slices,
    known: Collection[int],
    found: Mapping[int, SliceMask | None],
    shape: tuple[int, int],
    pack: Callable[[int, Slice], SliceMask | None],
) -> dict[int, SliceMask | None]:
    """Results of a propagation that change what was there in one direction only.

    Args:
        positive: whether the click was.
        before: result per slice before the round.
        known: slices that had a result then, empty or not; others are taken as they were found.
        found: slice to its new result.
        shape: (H, W) of a slice.
        pack: stores a slice.

    Returns:
        The larger probability of both at every pixel after a positive click, the smaller one after a negative click.
    """
    chosen = dict(found)
    for index in chosen.keys() & set(known):
        if before[index] is None or (found[index] is None and not positive):
            chosen[index] = found[index] if positive else None
            continue
        old, new = (unpack(mask, shape) for mask in (before[index], found[index]))
        chosen[index] = pack(index, np.maximum(old, new) if positive else np.minimum(old, new))
    return chosen
