"""One round: predict the prompted slice, constrain it, propagate until it stops, fuse with the round before.

Pure functions: a state goes in, a new state comes out, nothing else changes. The parts are `limnet.case.constraints`,
`limnet.case.refinement` (further forward passes), `limnet.propagation` and `limnet.case.fusion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.case.constraints import Constraints, check_free, obeys, plan, slice_bounds, supports
from limnet.case.engine import Progress, RoundContext, Slice
from limnet.case.fusion import Found, fuse, one_sided, prompt_sign
from limnet.case.history import ObjectState, Round, frozen_array
from limnet.case.live import watched
from limnet.case.planes import answered_later, click_for, clicks_from, plane_of
from limnet.case.refinement import BEFORE_PROPAGATION, answer_on, predict, predict_seen, prompted_masks
from limnet.case.suggestion import with_quality
from limnet.errors import InputError
from limnet.image.bitmask import BitMask
from limnet.image.slices import Slices, is_empty, unpack
from limnet.prompts import MaskPrompt, Prompt, Prompt2D, Scribble
from limnet.settings import Scope


def apply_prompt(
    ctx: RoundContext,
    state: ObjectState,
    prompt: Prompt,
    propagating: bool = False,
    answers: Mapping[int, Slice] | None = None,
) -> ObjectState:
    """First half of a round: predict the slices of a prompt and constrain them.

    Args:
        ctx: What to work with.
        state: State before.
        prompt: What the user marked, anywhere in the volume.
        propagating: Whether `propagate_prompts` follows; then a stroke through slices that nobody has seen is answered
            on some of them now, and on the others from what is propagated to them.
        answers: Slices with the probabilities that the user chose for them in place of the network's.

    Returns:
        State with the slices of the prompt predicted, frozen, and pending for propagation.

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
    bounds = slice_bounds(state, prompt, indices, view.volume.shape, view.axis)
    if bounds is not None:
        for index in range(len(slices)):
            if index not in prompts and not bounds[0] <= index <= bounds[1]:
                slices[index] = None
    new = replace(
        state,
        slices=tuple(slices),
        prompts=prompts,
        known=state.known | (set(indices) - unseen),
        pending=(*(i for i in state.pending if i not in indices), *indices),
        bounds=bounds,
        rounds=(*state.rounds, done),
    )
    return with_quality(ctx, state, new)


def propagate_prompts(
    ctx: RoundContext, before: ObjectState, state: ObjectState, scope: Scope, progress: Progress | None
) -> ObjectState:
    """Second half of a round: propagate the pending prompts, then fuse with the result of the round before.

    Args:
        ctx: What to work with.
        before: State before the round, whose masks fusion may keep.
        state: State with the pending prompts.
        scope: "volume" or "interval".
        progress: Told (done, total) of the slices to compute, ending with done = total; returning False cancels.

    Raises:
        InputError: If nothing was prompted yet.
        Cancelled: If `progress` returned False.
    """
    if not state.prompts:
        raise InputError("nothing to propagate: mark the object first, for example click((z, y, x))")
    given = state
    for refine in BEFORE_PROPAGATION:
        state = refine(ctx, state)
    view, limits = ctx.view_of(state), Constraints(ctx, state.rounds)
    prompted = prompted_masks(state, view.shape)
    masks = dict(prompted)
    if scope == "interval":
        masks |= {i: unpack(state.slices[i], view.shape) for i in supports(state)}
    prompts, allowed, work = plan(state, masks, scope, _origins(state, masks))
    found: Found = {}

    def known(index: int) -> Slice:
        return unpack(found[index] if index in found else state.slices[index], view.shape)

    total, behind = sum(len(targets) for _, targets in work), 0
    if not total and (watch := watched(progress, ctx.live, 0, 1, 1)) is not None:
        watch(1, 1)  # nothing to compute, and a progress bar should end
    for origin, targets in work:
        options = {} if ctx.live is None else {"found": ctx.live.shower(set(targets), limits.inside)}
        watch = watched(progress, ctx.live, behind, len(targets), total)
        result = ctx.engine.propagator.propagate(view, prompts, origin, scope, known, watch, **options)
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

    Args:
        ctx: What to work with.
        state: State before.
        result: (slices, H, W) bool, or probabilities, in view order, with a voxel of the object at least.
        prompt: What the user gave; its mask by default.
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
    """State in which a slice is frozen as it is, like one whose mask the user stated.

    Raises:
        OutsideError: If there is no such slice.
    """
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


def _origins(state: ObjectState, masks: Mapping[int, Slice]) -> list[int]:
    """Prompted slices to propagate from: the pending ones, or the last one once more."""
    last = state.rounds[-1].index if state.rounds else -1
    return [i for i in state.pending or [last if last in masks else max(masks)] if i in masks]


def _centre(part: Prompt2D) -> tuple[float, float] | None:
    """A point in the object for choosing the intensity window, if the prompt tells one."""
    if not part.positive:
        return None
    points = np.argwhere(part.mask.array()) if part.mask is not None else np.array(part.points)
    if not len(points):
        return None
    middle = points[len(points) // 2] if part.kind == "scribble" or part.mask is not None else points.mean(axis=0)
    return float(middle[0]), float(middle[1])
