"""One round: predict the prompted slice, constrain it, propagate until it stops, fuse with the round before.

Pure functions: a state goes in, a new state comes out, nothing else changes. What the prompts say for sure is
`limnet.case.constraints`, the choice between two rounds `limnet.case.fusion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.case.constraints import (
    Constraints,
    Plane,
    answered_later,
    check_free,
    click_for,
    clicks_from,
    enforce,
    obeys,
    plan,
    plane_of,
    supports,
)
from limnet.case.fusion import fuse, one_sided, prompt_sign, with_quality
from limnet.case.state import ObjectState, Round, RoundContext, frozen_array
from limnet.errors import Cancelled, InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import BitMask, Slice, SliceMask, Slices, is_empty, unpack
from limnet.interaction.predictor import agreement, neighbour
from limnet.interaction.prompt_maps import prompt_pixels
from limnet.prompts import MaskPrompt, Prompt, Prompt2D, Scribble
from limnet.settings import Scope

if TYPE_CHECKING:
    from limnet.propagation.propagator import Progress

AGREE = 0.8  # Dice of the propagated mask and the second prediction from which on the prediction counts


def apply_prompt(
    ctx: RoundContext,
    state: ObjectState,
    prompt: Prompt,
    propagating: bool = False,
    answers: Mapping[int, Slice] | None = None,
) -> ObjectState:
    """First half of a round: predict the slices of a prompt and constrain them; they are frozen and pending then.

    Args:
        ctx: What to work with.
        state: State before.
        prompt: What the user marked, anywhere in the volume.
        propagating: `propagate_prompts` follows: of a stroke through slices that nobody has seen some are answered now,
            the others from what is propagated to them.
        answers: Slices with the probabilities that the user chose for them in place of the network's.

    Raises:
        InputError: If the prompt does not fit the volume or marks voxels of a finished object.
    """
    state, done, placed = _read(ctx, state, prompt)
    if isinstance(prompt, MaskPrompt) and not prompt.frozen:
        return start_from(ctx, state, ctx.view.to_view(prompt.mask.array()), prompt)
    if len(placed) > 1 and isinstance(prompt, Scribble):
        # the middle one says most: it is answered first, and counts as the newest
        centre = placed[len(placed) // 2][0]
        placed.sort(key=lambda one: (-abs(one[0] - centre), -one[0]))
    done = replace(done, index=placed[-1][0])
    view, limits = ctx.view_of(state), Constraints(ctx, (*state.rounds, done))
    later = answered_later(state, placed) if propagating else set()
    slices, prompts = list(state.slices), dict(state.prompts)
    unseen: set[int] = set()
    for index, part in reversed(placed):
        if part.mask is not None and part.kind == "mask":
            prompts[index] = (part,)
            slices[index] = ctx.packed(index, part.mask.array().astype(np.float32))
            continue
        prompts[index] = (*prompts.get(index, ()), part)
        own = [p for p in prompts[index] if p.kind != "mask"]
        previous = None if is_empty(slices[index]) else unpack(slices[index], view.shape)
        if index in later:
            unseen.add(index)
            continue
        if part.kind == "scribble" and len(placed) > 1 and obeys(previous, part):
            continue
        if answers is not None and index in answers:
            probability = answers[index]
        elif previous is None and not any(p.positive for p in own):
            probability = np.zeros(view.shape, dtype=np.float32)  # only told what is not object: there is none here
            unseen |= {index} - state.known  # or nobody knows yet; see `prompted_masks`
        else:
            probability = predict(ctx, view, slices, prompts, index, previous)
        slices[index] = limits.apply(index, probability, own)
        if ctx.live is not None:
            ctx.live.settle(tuple(slices), [index])
    indices = [index for index, _ in placed]
    if limits.bounds is not None:
        first, last = limits.bounds
        slices = [s if i in prompts or first <= i <= last else None for i, s in enumerate(slices)]
    new = replace(
        state,
        slices=tuple(slices),
        prompts=prompts,
        known=state.known | (set(indices) - unseen),
        pending=(*(i for i in state.pending if i not in indices), *indices),
        bounds=limits.bounds,
        rounds=(*state.rounds, done),
    )
    return with_quality(ctx, state, new)


def propagate_prompts(ctx: RoundContext, before: ObjectState, state: ObjectState, scope: Scope) -> ObjectState:
    """Second half of a round: propagate the pending prompts of `state`, then fuse with the round before, `before`.

    Raises:
        InputError: If nothing was prompted yet.
        Cancelled: If a callback of the user returned False.
    """
    if not state.prompts:
        raise InputError("nothing to propagate: mark the object first, for example click((z, y, x))")
    given, state = state, look_back(ctx, state)
    view, limits = ctx.view_of(state), Constraints(ctx, state.rounds)
    prompted = prompted_masks(state, view.shape)
    masks = dict(prompted)
    if scope == "interval":
        masks |= {i: unpack(state.slices[i], view.shape) for i in supports(state)}
    prompts, allowed, work = plan(state, masks, scope, _origins(state, masks))
    found: dict[int, SliceMask | None] = {}

    def known(index: int) -> Slice:
        return unpack(found[index] if index in found else state.slices[index], view.shape)

    total, behind = sum(len(targets) for _, targets in work), 0
    if not total and (watch := _watched(ctx, 0, 1, 1)) is not None:
        watch(1, 1)  # nothing to compute, and a progress bar should end
    for origin, targets in work:
        show = None if ctx.live is None else ctx.live.shower(set(targets), limits.inside)
        watch = _watched(ctx, behind, len(targets), total)
        result = ctx.propagator.propagate(view, prompts, origin, scope, known, watch, show)
        behind += len(targets)
        # a slice left out lies behind an early stop: the object had ended before it
        found |= {i: limits.apply(i, result[i]) if i in result else None for i in targets}
    for i in state.prompts.keys() & found.keys():  # what was said of them before anyone saw them
        found[i] = predict_seen(ctx, state, i, found[i], limits)
    sign = prompt_sign(state) if ctx.settings.one_sided and scope == "interval" else None
    if sign is not None:
        found = one_sided(ctx, before, state, sign, found)
    chosen, kept = fuse(ctx, before, state, found, prompted)
    slices = [
        chosen[i] if i in chosen else state.slices[i] if i in masks or i in allowed else None for i in range(len(view))
    ]
    earlier, last = state.rounds, Round(None, work[-1][0] if work else max(masks))
    if state.pending and earlier:
        earlier, last = earlier[:-1], earlier[-1]
    changed = tuple(sorted(i for i in state.prompts if state.slices[i] is not given.slices[i]))
    new = replace(
        state,
        slices=tuple(slices),
        known=(state.known | set(found)) & allowed,  # slices emptied by a stop are no rivals for later rounds
        pending=(),
        rounds=(*earlier, replace(last, scope=scope, computed=len(found), kept=kept, reanswered=changed)),
    )
    return with_quality(ctx, state, new)


def start_from(
    ctx: RoundContext, state: ObjectState, result: NDArray[Any], prompt: MaskPrompt | None = None
) -> ObjectState:
    """State with a result that later rounds may change; prompted slices stay.

    `result` is (slices, H, W) bool or probabilities in view order, with a voxel of the object at least; `prompt` what
    the user gave, its mask by default.
    """
    if prompt is None:
        prompt = MaskPrompt(BitMask.of(np.moveaxis(result > 0.5, 0, ctx.view.axis)), frozen=False)
    slices: Slices = tuple(
        state.slices[i] if i in state.prompts else ctx.packed(i, result[i].astype(np.float32))
        for i in range(len(result))
    )
    largest = int((result > 0.5).reshape(len(result), -1).sum(axis=1).argmax())
    rounds = (*state.rounds, Round(prompt, largest))
    new = replace(state, slices=slices, known=frozenset(range(len(slices))), anchor=largest, rounds=rounds)
    return with_quality(ctx, state, new)


def accept_slice(ctx: RoundContext, state: ObjectState, index: int) -> ObjectState:
    """State in which a slice is frozen as it is, like one whose mask the user stated; OutsideError without it."""
    number = ctx.view.checked_index(index)
    probability, taken = unpack(state.slices[number], ctx.view.shape), ctx.excluded(number)
    mask = BitMask.of(probability > 0.5 if taken is None else (probability > 0.5) & ~taken)
    slices, quality = list(state.slices), state.quality.copy()
    if taken is not None:
        slices[number] = ctx.packed(number, probability)
    quality[number] = 1.0
    return replace(
        state,
        slices=tuple(slices),
        quality=frozen_array(quality),
        known=state.known | {number},
        prompts={**state.prompts, number: (Prompt2D("mask", mask=mask),)},
        rounds=(*state.rounds, Round(MaskPrompt(mask, number), number, accepted=True)),
    )


# parts of a round


def _read(
    ctx: RoundContext, state: ObjectState, prompt: Prompt
) -> tuple[ObjectState, Round, list[tuple[int, Prompt2D]]]:
    """The state with the object's window, the round of a prompt, and what it puts on which slices.

    A box or outline across the slices is answered on its own plane: that tells where on the slices to click.
    """
    shape, axis = ctx.view.volume.shape, ctx.view.axis
    plane, click = plane_of(prompt, shape, axis), click_for(prompt, state, shape, axis)
    done = Round(prompt, 0, marks=() if click is None else (click,))
    placed = done.placed(shape, axis)
    if isinstance(prompt, MaskPrompt) and not prompt.frozen:
        return state, done, placed
    if click is None:
        check_free(ctx, placed)
    if state.window is None and not ctx.fixed_window:
        index, part = placed[len(placed) // 2]
        if (centre := _centre(part)) is not None:  # what is not object says nothing about how the object looks
            state = replace(state, window=ctx.view.auto_window(index, centre))
    if plane is not None and plane.part.positive and click is not None:
        view = ctx.view_of(state)
        done = replace(done, marks=clicks_from(answer_on(ctx, view, plane), view, plane))
        placed = done.placed(shape, axis)
    return state, done, placed


def _centre(part: Prompt2D) -> tuple[float, float] | None:
    """A point in the object for choosing the intensity window, if the prompt tells one."""
    if not part.positive:
        return None
    points = np.argwhere(part.mask.array()) if part.mask is not None else np.array(part.points)
    if not len(points):
        return None
    middle = points[len(points) // 2] if part.kind == "scribble" or part.mask is not None else points.mean(axis=0)
    return float(middle[0]), float(middle[1])


def answer_on(ctx: RoundContext, view: SliceView, plane: Plane) -> NDArray[np.bool_]:
    """What a positive prompt on another plane is answered with there, as (slices, pixels) bool.

    Pixels run along the axis that is neither the case's nor the plane's. Only components that hold something of the
    prompt; never empty.
    """
    from scipy import ndimage

    across = SliceView(view.volume, plane.axis, view.window)
    predicted = ctx.predictor.predict(across, plane.index, [plane.part], None)
    region = prompt_pixels(plane.part, across.shape)
    mask = enforce(predicted, [plane.part], ctx.settings.click_fallback) > 0.5
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    held = np.isin(labels, np.setdiff1d(labels[region], 0))
    if not held.any():
        held = region
    return held if view.axis < 3 - view.axis - plane.axis else held.T


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
    return ctx.predictor.predict(view, index, own, previous, neighbour(view, slices, prompts, index))


def prompted_masks(state: ObjectState, shape: tuple[int, int]) -> dict[int, Slice]:
    """Masks of the prompted slices that count as prompts.

    Slices without a result so far do not: all they hold is what is not object, said before anyone saw them. They are
    propagated to like others, and then their prompts count (`predict_seen`); alone they are all there is.
    """
    seen = [i for i in state.prompts if i in state.known or not is_empty(state.slices[i])]
    return {i: unpack(state.slices[i], shape) for i in seen or state.prompts}


def predict_seen(
    ctx: RoundContext, state: ObjectState, index: int, found: SliceMask | None, limits: Constraints
) -> SliceMask | None:
    """What propagation found on a slice, corrected by what the user had said of it before."""
    own, view = state.prompts[index], ctx.view_of(state)
    propagated = None if is_empty(found) else unpack(found, view.shape)
    if propagated is None and not any(part.positive for part in own):
        return found
    if all(obeys(propagated, part) for part in own):
        return found
    return limits.apply(index, predict(ctx, view, state.slices, state.prompts, index, propagated), own)


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
        propagated = ctx.propagator.propagate_to(view, others, newest, index)
        if propagated is None or not (propagated > 0.5).any():
            continue
        answer = ctx.predictor.predict(view, index, list(own), propagated)
        if agreement(answer > 0.5, propagated > 0.5) >= AGREE:
            slices[index] = limits.apply(index, answer, own)
    return replace(state, slices=tuple(slices))


def _origins(state: ObjectState, masks: Mapping[int, Slice]) -> list[int]:
    """Prompted slices to propagate from: the pending ones, or the last one once more."""
    last = state.rounds[-1].index if state.rounds else -1
    return [i for i in state.pending or [last if last in masks else max(masks)] if i in masks]


def _watched(ctx: RoundContext, before: int, share: int, total: int) -> Progress | None:
    """Progress of one propagation, which has `share` of the round's `total` slices and comes after `before` of them."""
    if ctx.progress is None and ctx.live is None:
        return None

    def tell(done: int, of: int) -> None:
        at = before + share * done // max(of, 1)
        if ctx.live is not None:
            ctx.live.done, ctx.live.total = at, total
        answer = None if ctx.progress is None else ctx.progress(at, total)
        if isinstance(answer, (bool, np.bool_)) and not answer:
            raise Cancelled("the round was cancelled by the progress callback; the case is as it was before the round")

    return tell
