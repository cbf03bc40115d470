"""Which slice to look at next."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limnet.case.state import ObjectState
from limnet.errors import InputError
from limnet.image.slices import area, is_empty, overlap


@dataclass(frozen=True)
class Suggestion:
    """A slice worth a look.

    Attributes:
        index: Slice along `axis`.
        axis: Axis of the volume, 0, 1 or 2.
        score: 0 (nothing wrong in sight) to 1 (surely wrong).
        reason: Why, in words.
    """

    index: int
    axis: int
    score: float
    reason: str


def suggest(state: ObjectState, axis: int, skip: Collection[int] = ()) -> Suggestion:
    """The slice most in need of a prompt; never one that is prompted already or to be skipped.

    The score of a slice is 3/4 of its lack of quality (averaged with its filled neighbours, weights 1-2-1; an empty
    slice beside the object is as doubtful as the mask it adjoins) plus 1/4 of how badly its mask overlaps those of its
    neighbours (1 - Dice; the larger of both sides for an inner slice, the smaller one at an end of the object, where
    one side is naturally empty). Slices outside of a box come only where none in it is left. On ties one with a mask
    comes first, then the one farthest from any prompt. Before anything but background was marked: a middle slice.

    Raises:
        InputError: if no slice is left.
    """
    depth = len(state.slices)
    filled = [i for i in range(depth) if not is_empty(state.slices[i])]
    if not state.prompts and not filled:
        return Suggestion(depth // 2, axis, 1.0, "nothing is marked yet: start on a slice where the object is large")
    free = [i for i in range(depth) if i not in state.prompts and i not in skip]
    if state.bounds is not None:  # outside a box there is little to look for
        free = [i for i in free if state.bounds[0] <= i <= state.bounds[1]] or free
    if not free:
        raise InputError(
            "every slice has been prompted or skipped: there is none left to suggest. Correct a slice by clicking on it"
        )
    if not filled and not any(p.positive for told in state.prompts.values() for p in told if p.kind != "mask"):
        middle = min(free, key=lambda i: abs(i - depth // 2))
        return Suggestion(
            middle, axis, 1.0, "only background is marked so far: mark the object, on a slice where it is large"
        )
    near = sorted({j for i in filled for j in (i - 1, i, i + 1)} & set(free)) or free
    lack = _lack(state, filled)
    jumps = {i: _jump(state, i) for i in near}
    distance = {i: min((abs(i - j) for j in state.prompts), default=depth) for i in near}
    score = {i: 0.75 * float(lack[i]) + 0.25 * jumps[i] for i in near}
    index = max(near, key=lambda i: (round(score[i], 6), not is_empty(state.slices[i]), distance[i], -i))
    return Suggestion(
        index, axis, score[index], _reason(state, index, float(lack[index]), jumps[index], distance[index])
    )


def _lack(state: ObjectState, filled: list[int]) -> NDArray[np.float64]:
    """(D,) lack of quality, smoothed over masks that adjoin."""
    weight = np.zeros(len(state.slices) + 2)
    weight[np.array(filled, dtype=np.intp) + 1] = 1.0
    plain = np.pad(1.0 - state.quality.astype(np.float64), 1)
    there = weight[:-2] + 2 * weight[1:-1] + weight[2:]
    smooth = (weight * plain)[:-2] + 2 * (weight * plain)[1:-1] + (weight * plain)[2:]
    lack = np.where(weight[1:-1] > 0, smooth / np.maximum(there, 1.0), plain[1:-1])
    for i in np.flatnonzero((weight[1:-1] == 0) & (there > 0)).tolist():
        lack[i] = min(lack[j] for j in (i - 1, i + 1) if 0 <= j < len(lack) and weight[j + 1])
    return lack


def _jump(state: ObjectState, index: int) -> float:
    here = state.slices[index]
    sides = [1.0 - overlap(here, state.slices[j]) for j in (index - 1, index + 1) if 0 <= j < len(state.slices)]
    if not sides or is_empty(here):
        return 0.0
    at_end = any(0 <= j < len(state.slices) and is_empty(state.slices[j]) for j in (index - 1, index + 1))
    return min(sides) if at_end else max(sides)


def _reason(state: ObjectState, index: int, lack: float, jump: float, distance: int) -> str:
    parts = []
    if 0.25 * jump > 0.75 * lack and jump > 0.1:
        change = [area(state.slices[j]) for j in (index - 1, index + 1) if 0 <= j < len(state.slices)]
        parts.append(f"the mask jumps between neighbouring slices ({area(state.slices[index])} pixels beside {change})")
    else:
        parts.append(f"lowest estimated quality around here ({1.0 - lack:.2f} of 1)")
    if is_empty(state.slices[index]):
        parts.append("the object was taken to end just before this slice")
    if state.prompts:
        parts.append(f"{distance} slice{'s' if distance != 1 else ''} from the nearest prompt")
    return "; ".join(parts)
