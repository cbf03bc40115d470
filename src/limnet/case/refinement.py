"""Refinements: further forward passes after which a round knows more, each a function of one signature, in order.

Before propagation (`BEFORE_PROPAGATION`): earlier prompted slices are predicted again with what the newest prompt says.
Others are part of one prediction (`limnet.interaction.predictor`): the scales of a first look, and what a negative
click takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from limnet.case.constraints import Constraints, enforce, obeys
from limnet.case.engine import RoundContext, Slice
from limnet.case.history import ObjectState
from limnet.case.planes import Plane
from limnet.image.slice_view import SliceView
from limnet.image.slices import SliceMask, is_empty, unpack
from limnet.interaction.agreement import agreement
from limnet.interaction.neighbour import neighbour
from limnet.interaction.prompt_maps import prompt_pixels
from limnet.prompts import Prompt2D

AGREE = 0.8  # Dice of the propagated mask and the second prediction from which on the prediction counts

Refinement = Callable[[RoundContext, ObjectState], ObjectState]


def predict(
    ctx: RoundContext,
    view: SliceView,
    slices: Sequence[SliceMask | None],
    prompts: Mapping[int, Sequence[Prompt2D]],
    index: int,
    previous: Slice | None,
) -> Slice:
    """Slice `index` from its own prompts, with the nearest other prompted slice as context."""
    own = [part for part in prompts[index] if part.kind != "mask"]
    return ctx.engine.predictor.predict(view, index, own, previous, neighbour(view, slices, prompts, index))


def answer_on(ctx: RoundContext, view: SliceView, plane: Plane) -> NDArray[np.bool_]:
    """What a positive prompt on another plane is answered with there.

    Returns:
        (slices, pixels) bool: rows are slices of the case, columns run along the axis that is neither its nor the
        plane's. Only components that hold something of the prompt; never empty.
    """
    across = SliceView(view.volume, plane.axis, view.window)
    predicted = ctx.engine.predictor.predict(across, plane.index, [plane.part], None)
    region = prompt_pixels(plane.part, across.shape)
    held = _components(enforce(predicted, [plane.part], ctx.settings.click_fallback) > 0.5, region)
    if not held.any():
        held = region
    return held if view.axis < 3 - view.axis - plane.axis else held.T


def _components(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Connected components of a mask (H, W) that hold a pixel of `seeds`."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    return np.isin(labels, np.setdiff1d(labels[seeds], 0))


# earlier prompts


def look_back(ctx: RoundContext, state: ObjectState) -> ObjectState:
    """Predict slices with a single click again, on both sides of the newest prompt and near to it.

    One click often says too little, and the answer to it stays in memory for all rounds to come. The next prompt near
    by tells more of what was meant: its mask, propagated to the older slice, is the start from which that slice's own
    click is answered a second time. The answer counts only where both networks agree on it. Slices on which the user
    did more than to click once, and slices without the object, stay as they are.
    """
    farthest, view = ctx.settings.look_back, ctx.view_of(state)
    masks = prompted_masks(state, view.shape)
    newest = state.pending[-1] if state.pending else -1
    if not farthest or newest not in masks or not (masks[newest] > 0.5).any():
        return state
    limits, slices = Constraints(ctx, state.rounds), list(state.slices)
    for direction in (-1, 1):
        ahead = [index for index in masks if (index - newest) * direction > 0]
        index = min(ahead, key=lambda i: abs(i - newest), default=newest)
        own = state.prompts.get(index, ())
        # pending ones the user has not seen propagated yet: they say as much as the newest one
        if index in state.pending or not 0 < abs(index - newest) <= farthest or not (masks[index] > 0.5).any():
            continue
        if len(own) != 1 or own[0].kind != "click":
            continue
        others = {i: mask for i, mask in masks.items() if i != index}
        carried = ctx.engine.propagator.carry(view, others, newest, index)
        if carried is None or not (carried > 0.5).any():
            continue
        answer = ctx.engine.predictor.predict(view, index, list(own), carried)
        if agreement(answer > 0.5, carried > 0.5) >= AGREE:
            slices[index] = limits.apply(index, answer, own)
    return replace(state, slices=tuple(slices))


def prompted_masks(state: ObjectState, shape: tuple[int, int]) -> dict[int, Slice]:
    """Masks of the prompted slices that count as prompts.

    Slices without a result so far do not: all they hold is what is not object, said before anyone saw them. They are
    propagated to like any other slice, and only then do their prompts count (`predict_seen`). Where no other slice is
    prompted they are all there is.
    """
    seen = [i for i in state.prompts if i in state.known or not is_empty(state.slices[i])]
    return {i: unpack(state.slices[i], shape) for i in seen or state.prompts}


def predict_seen(
    ctx: RoundContext, state: ObjectState, index: int, found: SliceMask | None, limits: Constraints
) -> SliceMask | None:
    """What propagation found on a slice, corrected by what the user had said of it before."""
    own, view = state.prompts[index], ctx.view_of(state)
    carried = None if is_empty(found) else unpack(found, view.shape)
    if carried is None and not any(part.positive for part in own):
        return found
    if all(obeys(carried, part) for part in own):
        return found
    return limits.apply(index, predict(ctx, view, state.slices, state.prompts, index, carried), own)


BEFORE_PROPAGATION: tuple[Refinement, ...] = (look_back,)
