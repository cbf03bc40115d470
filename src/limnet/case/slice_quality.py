"""Estimated quality of every slice of an object, brought up to date after each step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limnet.case.history import ObjectState, frozen_array
from limnet.image.slice_view import SliceView
from limnet.image.slices import is_empty, unpack

if TYPE_CHECKING:
    from limnet.case.rounds import Bench

_BATCH = 16  # slices per call of the quality network
_NEAR = 2  # empty slices this close to the object have a quality below 1


def with_quality(bench: Bench, before: ObjectState, state: ObjectState) -> ObjectState:
    """The state with its quality brought up to date; unchanged slices keep theirs.

    Empty slices next to the object are rated like the nearest masks that nobody prompted: where an end is wrong, the
    masks before it are doubtful, while an empty mask itself tells nothing.
    """
    depth = len(state.slices)
    filled = {i for i in range(depth) if not is_empty(state.slices[i])}
    near = {j for i in filled for j in range(max(i - _NEAR, 0), min(i + _NEAR + 1, depth))}
    quality = np.ones(depth, dtype=np.float32)
    wanted: list[int] = []
    for i in sorted((filled | near) - set(state.prompts)):
        if i in filled and i not in before.prompts and state.slices[i] is before.slices[i]:
            quality[i] = before.quality[i]
        else:
            wanted.append(i)
    view = bench.view_of(state)
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        quality[batch] = _assessed(bench, view, state, batch)
    rated = filled - set(state.prompts)
    for i in near - filled - set(state.prompts):
        beside = [j for j in range(i - _NEAR, i + _NEAR + 1) if j in rated]
        nearest = min((abs(i - j) for j in beside), default=0)
        quality[i] = min([quality[j] for j in beside if abs(i - j) == nearest], default=quality[i])
    return replace(state, quality=frozen_array(quality))


def _assessed(bench: Bench, view: SliceView, state: ObjectState, batch: list[int]) -> NDArray[np.float32]:
    if bench.engine.assessor is None:  # all there is to go by: how far the nearest prompt is
        distance = [min((abs(i - j) for j in state.prompts), default=len(state.slices)) for i in batch]
        return np.asarray(1.0 / (1.0 + 0.05 * np.array(distance)), dtype=np.float32)
    masks = [unpack(state.slices[i], view.shape) for i in batch]
    values = np.asarray(bench.engine.assessor.quality(view, batch, masks), dtype=np.float32)
    return np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
