"""The two halves of a round as pure functions: a state goes in, a new state comes out, nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.case.across import joined, look_across
from limnet.case.alternatives import distinct
from limnet.case.bounds import Frame, frame_of, framed, slice_bounds
from limnet.case.compliance import enforce
from limnet.case.engine import Engine, Progress, Slice
from limnet.case.fusion import fuse
from limnet.case.history import ObjectState, Round, frozen_array
from limnet.case.live import Live
from limnet.case.look_back import look_back
from limnet.case.one_sided import one_sided, sign_of
from limnet.case.planes import answer_on, answered_later, clicks_from, middle, negative_click, plane_of, taken_away
from limnet.case.reach import between, separated, supported
from limnet.case.slice_quality import with_quality
from limnet.errors import Cancelled, InputError
from limnet.image.bitmask import BitMask
from limnet.image.slice_view import SliceView
from limnet.image.slices import SliceMask, Slices, area, dense_mask, is_empty, pack, unpack
from limnet.interaction.neighbour import neighbour
from limnet.prompts import MaskPrompt, Prompt, Prompt2D, Scribble
from limnet.propagation.stride import longest_stride, spread
from limnet.quality.prompted import Prompted
from limnet.settings import Scope, Settings

# A correction of a starting mask is carried over this share of its slices to either side. On 8 proposals of hippocampus
# and ventricle the Dice after a click is .81 with it, .78 with half of the slices, and .66 when all are done over.
_CORRECTED = 0.3


@dataclass(frozen=True)
class Bench:
    """What a round works with.

    Attributes:
        engine: Predictor, propagator, assessor.
        view: The volume along the case's axis.
        settings: Settings of the case.
        fixed_window: Whether the user chose the intensity window (then objects do not choose their own).
        excluded: Gives the (H, W) pixels of a slice that belong to finished other objects, or None.
        live: Tells a screen what changes while a round runs, or None.
    """

    engine: Engine
    view: SliceView
    settings: Settings
    fixed_window: bool
    excluded: Callable[[int], NDArray[np.bool_] | None]
    live: Live | None = None

    def view_of(self, state: ObjectState) -> SliceView:
        """The view with the object's intensity window."""
        return self.view if state.window is None else self.view.with_window(state.window)

    def packed(self, index: int, probability: Slice) -> SliceMask | None:
        """Store a slice without the pixels of finished other objects."""
        taken = self.excluded(index)
        return pack(probability if taken is None else np.where(taken, np.float32(0), probability))


def apply_prompt(
    bench: Bench,
    state: ObjectState,
    prompt: Prompt,
    propagating: bool = False,
    answers: Mapping[int, Slice] | None = None,
) -> ObjectState:
    """First half of a round: the prompted slice.

    Args:
        bench: What to work with.
        state: State before.
        prompt: What the user marked, anywhere in the volume.
        propagating: Whether `propagate_prompts` follows; then a stroke through slices that nobody has seen is answered
            on some of them now, and on the others from what is carried to them.
        answers: Slices with the (H, W) probabilities that the user chose for them in place of the network's.

    Returns:
        State with the slices of the prompt predicted, frozen, and pending for propagation.

    Raises:
        InputError: if the prompt does not fit the volume or marks voxels of a finished object.
    """
    shape, axis = bench.view.volume.shape, bench.view.axis
    plane, gone = plane_of(prompt, shape, axis), taken_away(prompt, shape, axis)
    marks: tuple[Prompt, ...] = ()  # what it is taken as, where it is no prompt of the slices as it is
    if gone is not None:
        marks = (negative_click(gone, dense_mask(state.slices, shape, axis)),)
    elif plane is not None and not isinstance(prompt, Scribble):
        marks = (middle(plane),)
    placed = [one for told in marks or (prompt,) for one in told.on_slices(shape, axis)]
    if isinstance(prompt, MaskPrompt) and not prompt.frozen:
        return start_from(bench, state, bench.view.to_view(prompt.mask.array()), prompt)
    if not marks:
        for index, part in placed:
            _check_free(bench, index, part)
    if state.window is None and not bench.fixed_window:
        index, part = placed[len(placed) // 2]
        if (centre := _centre(part)) is not None:  # what is not object says nothing about how the object looks
            state = replace(state, window=bench.view.auto_window(index, centre))
    view, shown = bench.view_of(state), None
    if plane is not None and plane.part.positive and (marks or bench.settings.look_across):
        shown = answer_on(bench.engine.predictor, view, plane, bench.settings.click_fallback)
        if marks:
            marks = clicks_from(shown, view, plane)
            placed = [one for told in marks for one in told.on_slices(shape, axis)]
    if len(placed) > 1 and isinstance(prompt, Scribble):
        # the middle one says most: it is answered first, and counts as the newest
        centre_slice = placed[len(placed) // 2][0]
        placed.sort(key=lambda one: (-abs(one[0] - centre_slice), -one[0]))
    done = Round(prompt, placed[-1][0], marks=marks)
    later = answered_later(state, placed) if propagating else set()
    frame = frame_of((*state.rounds, done), shape, axis)
    slices, prompts = list(state.slices), dict(state.prompts)
    unseen: set[int] = set()
    for index, part in reversed(placed):
        if part.mask is not None and part.kind == "mask":
            prompts[index] = (part,)
            slices[index] = bench.packed(index, part.mask.array().astype(np.float32))
            continue
        prompts[index] = (*prompts.get(index, ()), part)
        drawn = [p for p in prompts[index] if p.kind != "mask"]
        previous = None if is_empty(slices[index]) else unpack(slices[index], view.shape)
        if index in later:
            unseen.add(index)
            continue
        if part.kind == "scribble" and len(placed) > 1 and _obeyed(previous, part):
            continue
        if answers is not None and index in answers:
            probability = answers[index]
        elif previous is None and not any(p.positive for p in drawn):
            probability = np.zeros(view.shape, dtype=np.float32)  # only told what is not object: there is none here
            unseen |= {index} - state.known  # or nobody knows yet; see `_prompted_masks`
        else:
            nearest = neighbour(view, slices, prompts, index)
            probability = bench.engine.predictor.predict(view, index, drawn, previous, nearest)
        obedient = enforce(framed(_checked(probability, view), frame), drawn, bench.settings.click_fallback)
        slices[index] = bench.packed(index, obedient)
        if bench.live is not None:
            bench.live.settle(tuple(slices), [index])
    indices = [index for index, _ in placed]
    bounds = slice_bounds(state, prompt, indices, shape, axis)
    reach = _reach(bench, view, state.reach, placed, slices) if plane is None else _reach_on(bench, state.reach, shown)
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
        reach=reach,
        rounds=(*state.rounds, done),
    )
    return with_quality(bench, state, new)


def other_answers(bench: Bench, before: ObjectState, state: ObjectState, prompt: Prompt) -> tuple[int, list[Slice]]:
    """Slice of a prompt on a single one, and the answers to it that a person can tell apart, smallest first.

    Args:
        bench: What to work with.
        before: State before the prompt.
        state: State with it.
        prompt: A click, scribble, box or lasso on one slice.
    """
    shape, axis = bench.view.volume.shape, bench.view.axis
    [(index, part)] = prompt.on_slices(shape, axis)
    view, frame = bench.view_of(state), frame_of((*before.rounds, Round(prompt, index)), shape, axis)
    told = [p for p in (*before.prompts.get(index, ()), part) if p.kind != "mask"]
    previous = None if is_empty(before.slices[index]) else unpack(before.slices[index], view.shape)
    nearest = neighbour(view, before.slices, {**before.prompts, index: ()}, index)
    predictor = bench.engine.predictor

    def obedient(answer: Slice) -> Slice:
        return enforce(framed(_checked(answer, view), frame), told, bench.settings.click_fallback)

    given = obedient(predictor.predict(view, index, told, previous, nearest))
    others = [obedient(answer) for answer in predictor.looks(view, index, told, previous)]
    return index, [obedient(answer) for answer in distinct(given, others, told)]


def _obeyed(previous: Slice | None, part: Prompt2D) -> bool:
    """Whether the mask of a slice already says what a stroke says."""
    if part.mask is None:
        return False
    marked = part.mask.array()
    if previous is None:
        return not part.positive
    inside = previous[marked] > 0.5
    return bool(inside.all() if part.positive else not inside.any())


def accept_slice(bench: Bench, state: ObjectState, index: int) -> ObjectState:
    """State in which a slice is frozen as it is, like one whose mask the user stated.

    Raises:
        OutsideError: if there is no such slice.
    """
    number = bench.view.checked_index(index)
    visible = unpack(state.slices[number], bench.view.shape) > 0.5
    if (taken := bench.excluded(number)) is not None:
        visible &= ~taken
    mask = BitMask.of(visible)
    slices = list(state.slices)
    if taken is not None:
        slices[number] = bench.packed(number, unpack(state.slices[number], bench.view.shape))
    quality = state.quality.copy()
    quality[number] = 1.0
    return replace(
        state,
        slices=tuple(slices),
        quality=frozen_array(quality),
        known=state.known | {number},
        prompts={**state.prompts, number: (Prompt2D("mask", mask=mask),)},
        rounds=(*state.rounds, Round(MaskPrompt(mask, number), number, accepted=True)),
    )


def propagate_prompts(
    bench: Bench, before: ObjectState, state: ObjectState, scope: Scope, progress: Progress | None
) -> ObjectState:
    """Second half of a round: propagation of the pending prompts, then fusion with the result of the round before.

    Args:
        bench: What to work with.
        before: State before the round, whose masks fusion may keep.
        state: State with the pending prompts.
        scope: "volume" or "interval".
        progress: Told (done, total) of the slices to compute, ending with done = total; returning False cancels.

    Raises:
        InputError: if nothing was prompted yet.
        Cancelled: if `progress` returned False.
    """
    if not state.prompts:
        raise InputError("nothing to propagate: mark the object first, for example click((z, y, x))")
    view = bench.view_of(state)
    frame = frame_of(state.rounds, view.volume.shape, view.axis)
    state, reanswered = _looked_back(bench, view, state, frame)
    depth, shape = len(view), view.shape
    masks = _prompted_masks(state, shape)
    if scope == "interval":
        masks |= {i: unpack(state.slices[i], shape) for i in _supports(state)}
    filled = {i: not is_empty(state.slices[i]) for i in masks}
    alive = supported(filled, depth, state.anchor, state.bounds)
    prompts = {i: masks[i] for i in sorted(masks)}
    if scope == "volume" and state.bounds is not None:  # sweeps need not look beyond the bounds
        for i in (state.bounds[0] - 1, state.bounds[1] + 1):
            if 0 <= i < depth:
                prompts.setdefault(i, np.zeros(shape, dtype=np.float32))
    origins = _origins(state, filled, scope, depth)
    found: dict[int, SliceMask | None] = {}
    work = []
    for origin in origins:
        span = separated(filled, origin, depth) if scope == "volume" else between(filled, origin, depth)
        targets = [i for i in span if i in alive and i not in filled]
        if targets:
            work.append((origin, targets))
    behind, total = 0, sum(len(targets) for _, targets in work)
    if not total and (watch := _watch(progress, 0, 1, 1, bench.live)) is not None:
        watch(1, 1)  # nothing to compute, and a progress bar should end
    for origin, targets in work:

        def known(index: int) -> Slice:
            return unpack(found[index] if index in found else state.slices[index], shape)

        watch = _watch(progress, behind, len(targets), total, bench.live)
        propagate = bench.engine.propagator.propagate
        within = () if state.reach is None else (state.reach,)
        live: dict[str, Any] = {} if bench.live is None else {"found": _shown(bench.live, frame, set(targets))}
        result = propagate(view, prompts, origin, scope, known, watch, *within, **live)
        behind += len(targets)
        for i in targets:  # a slice left out lies behind an early stop: the object had ended before it
            found[i] = bench.packed(i, framed(_checked(result[i], view), frame)) if i in result else None
    for i in state.prompts.keys() & found.keys():  # what was said of them before anyone saw them
        found[i] = _told(bench, view, state, i, found[i], frame)
    if bench.settings.one_sided and scope == "interval" and (positive := sign_of(state)) is not None:
        found = one_sided(positive, before.slices, before.known, found, shape, bench.packed)
    chosen, kept = _fused(bench, view, before, state, found)
    slices = list(state.slices)
    for i in range(depth):
        if i in chosen:
            slices[i] = chosen[i]
        elif i not in filled and i not in alive:
            slices[i] = None
    last = state.rounds[-1] if state.pending and state.rounds else Round(None, origins[-1] if origins else max(filled))
    done = replace(last, scope=scope, computed=len(found), kept=kept, reanswered=reanswered)
    new = replace(
        state,
        slices=tuple(slices),
        known=(state.known | set(found)) & alive,  # slices emptied by a stop are no rivals for later rounds
        pending=(),
        rounds=(*(state.rounds[:-1] if state.pending and state.rounds else state.rounds), done),
    )
    return with_quality(bench, state, new)


def _looked_back(
    bench: Bench, view: SliceView, state: ObjectState, frame: Frame | None
) -> tuple[ObjectState, tuple[int, ...]]:
    """The state with second answers on slices beside the newest prompt, and which these are; see `look_back`."""
    if not bench.settings.look_back or not state.pending:
        return state, ()
    masks = _prompted_masks(state, view.shape)
    if state.pending[-1] not in masks:
        return state, ()
    # pending ones the user has not seen propagated yet: they say as much as the newest one
    earlier = {i: told for i, told in state.prompts.items() if i not in state.pending}
    answers = look_back(bench.engine, view, masks, earlier, state.pending[-1], bench.settings.look_back)
    slices = list(state.slices)
    for i, answer in answers.items():
        obedient = enforce(framed(_checked(answer, view), frame), state.prompts[i], bench.settings.click_fallback)
        slices[i] = bench.packed(i, obedient)
    return replace(state, slices=tuple(slices)), tuple(sorted(answers))


def _prompted_masks(state: ObjectState, shape: tuple[int, int]) -> dict[int, Slice]:
    """Masks of the prompted slices that count as prompts.

    Slices without a result so far do not: all they hold is what is not object, said before anyone saw them. They are
    propagated to like any other slice, and only then do their prompts count. Where no other slice is prompted they are
    all there is.
    """
    seen = [i for i in state.prompts if i in state.known or not is_empty(state.slices[i])]
    return {i: unpack(state.slices[i], shape) for i in seen or state.prompts}


def _told(
    bench: Bench, view: SliceView, state: ObjectState, index: int, found: SliceMask | None, frame: Frame | None
) -> SliceMask | None:
    """What propagation found on a slice, corrected by what the user had said of it before."""
    told = list(state.prompts[index])
    if is_empty(found) and not any(part.positive for part in told):
        return found
    carried = unpack(found, view.shape)
    if all(_obeyed(carried, part) for part in told):
        return found
    nearest = neighbour(view, state.slices, state.prompts, index)
    probability = bench.engine.predictor.predict(view, index, told, None if is_empty(found) else carried, nearest)
    inside = framed(_checked(probability, view), frame)
    return bench.packed(index, enforce(inside, told, bench.settings.click_fallback))


def _supports(state: ObjectState) -> list[int]:
    """Slices of a starting mask that a correction is carried up to, as if they were prompted: one on each side.

    Without them a click on one error of a good starting mask would carry its own slice through the whole object.
    """
    if state.anchor is None or not state.pending:
        return []
    holding = [i for i, mask in enumerate(state.slices) if not is_empty(mask) and i not in state.prompts]
    apart, newest = max(1, round(_CORRECTED * len(holding))), state.pending[-1]
    below = [i for i in holding if i <= newest - apart]
    above = [i for i in holding if i >= newest + apart]
    return [*below[-1:], *above[:1]]


def _prompted(before: ObjectState, state: ObjectState, shape: tuple[int, int]) -> Prompted:
    """What the user said, the newest prompt with its slice's mask before the round."""
    newest = (state.pending or (state.rounds[-1].index,))[-1]
    newest = newest if newest in state.prompts else max(state.prompts)
    masks = {newest: unpack(state.slices[newest], shape), **_prompted_masks(state, shape)}
    return Prompted(newest, unpack(before.slices[newest], shape), masks)


def _fused(
    bench: Bench, view: SliceView, before: ObjectState, state: ObjectState, found: dict[int, SliceMask | None]
) -> tuple[dict[int, SliceMask | None], int]:
    """Choose between `found` and the masks of the round before, eq. (4); also the number of slices that kept theirs."""
    assessor = bench.engine.assessor
    found = {i: before.slices[i] if new == before.slices[i] else new for i, new in found.items()}  # share what is equal
    rivals = [i for i in sorted(found) if i in before.known and found[i] is not before.slices[i]]
    if assessor is None or not bench.engine.fusion or bench.settings.tau >= 1 or not rivals:
        return found, 0
    shape, chosen, kept = view.shape, dict(found), 0
    prompted = _prompted(before, state, shape)
    stride = longest_stride(bench.settings.stride_mm, view, max(area(s) for s in found.values()))
    judged, size = spread(rivals, stride), bench.settings.quality_batch
    p: list[float] = []
    for start in range(0, len(judged), size):
        batch = judged[start : start + size]
        old, new = ([unpack(slices[i], shape) for i in batch] for slices in (before.slices, found))
        p += assessor.compare(view, batch, old, new, prompted).tolist()
    choices = fuse(
        [before.slices[i] for i in rivals],
        [found[i] for i in rivals],
        p if judged == rivals else np.interp(rivals, judged, p),
        bench.settings.tau,
    )
    for i, choice in zip(rivals, choices, strict=True):
        # a kept mask may hold pixels of an object that was finished in the meantime
        clash = choice is before.slices[i] and bench.excluded(i) is not None
        chosen[i] = bench.packed(i, unpack(choice, shape)) if clash else choice
        kept += choice is before.slices[i]
    return chosen, kept


def start_from(bench: Bench, state: ObjectState, result: NDArray[Any], prompt: MaskPrompt | None = None) -> ObjectState:
    """State with a result that later rounds may change; prompted slices stay.

    Args:
        bench: What to work with.
        state: State before.
        result: (slices, H, W) bool, or probabilities, in view order, with a voxel of the object at least.
        prompt: What the user gave; its mask by default.
    """
    if prompt is None:
        prompt = MaskPrompt(BitMask.of(np.moveaxis(result > 0.5, 0, bench.view.axis)), frozen=False)
    slices: Slices = tuple(
        state.slices[i] if i in state.prompts else bench.packed(i, result[i].astype(np.float32))
        for i in range(len(result))
    )
    largest = int((result > 0.5).reshape(len(result), -1).sum(axis=1).argmax())
    new = replace(
        state,
        slices=slices,
        known=frozenset(range(len(slices))),
        anchor=largest,
        rounds=(*state.rounds, Round(prompt, largest)),
    )
    return with_quality(bench, state, new)


def _reach(
    bench: Bench,
    view: SliceView,
    reach: tuple[int, int] | None,
    placed: Iterable[tuple[int, Prompt2D]],
    slices: list[SliceMask | None],
) -> tuple[int, int] | None:
    """What is known of the object's reach after positive clicks; see `look_across`."""
    if not bench.settings.look_across:
        return reach
    for index, part in placed:
        inside = reach is not None and reach[0] <= index <= reach[1]
        if inside or part.kind != "click" or not part.positive or is_empty(slices[index]):
            continue
        reach = joined(reach, look_across(bench.engine.predictor, view, index, part.points[0]))
    return reach


def _reach_on(bench: Bench, reach: tuple[int, int] | None, shown: NDArray[np.bool_] | None) -> tuple[int, int] | None:
    """What is known of the object's reach after a prompt on another plane, which shows it."""
    if not bench.settings.look_across or shown is None:
        return reach
    rows = np.flatnonzero(shown.any(axis=1)).tolist()
    return joined(reach, (rows[0], rows[-1]))


def _origins(state: ObjectState, filled: dict[int, bool], scope: Scope, depth: int) -> list[int]:
    """Slices to propagate from: the last pending one, or all of them when each only fills its own interval."""
    pending = list(state.pending) or [state.rounds[-1].index if state.rounds[-1].index in filled else max(filled)]
    pending = [i for i in pending if i in filled]
    if scope == "volume":
        return [i for i in pending if filled[i]][-1:]
    return [i for i in pending if any(0 <= j < depth and j not in filled for j in (i - 1, i + 1))]


def _shown(live: Live, frame: Frame | None, targets: set[int]) -> Callable[[int, Slice], None]:
    """Shows slices as a propagation finds them; where two sweeps meet, the second one and their blend come after."""

    def found(index: int, probability: Slice) -> None:
        if index in targets:
            live.found(index, framed(probability, frame))

    return found


def _watch(progress: Progress | None, before: int, share: int, total: int, live: Live | None) -> Progress | None:
    """Progress of one propagation, which has `share` of the round's `total` slices and comes after `before` of them."""
    if progress is None and live is None:
        return None

    def tell(done: int, of: int) -> None:
        at = before + share * done // max(of, 1)
        if live is not None:
            live.done, live.total = at, total
        answer = None if progress is None else progress(at, total)
        if isinstance(answer, (bool, np.bool_)) and not answer:
            raise Cancelled("the round was cancelled by the progress callback; the case is as it was before the round")

    return tell


def _check_free(bench: Bench, index: int, part: Prompt2D) -> None:
    if part.kind != "click" or not part.positive:
        return
    taken = bench.excluded(index)
    if taken is not None and taken[part.points[0]]:
        raise InputError(
            f"slice {index}, pixel {part.points[0]} belongs to a finished object: "
            "click beside it, or reopen() that object"
        )


def _centre(part: Prompt2D) -> tuple[float, float] | None:
    """A point in the object for choosing the intensity window, if the prompt tells one."""
    if not part.positive:
        return None
    points = np.argwhere(part.mask.array()) if part.mask is not None else np.array(part.points)
    if not len(points):
        return None
    if part.kind == "scribble" or part.mask is not None:
        y, x = points[len(points) // 2]
    else:
        y, x = points.mean(axis=0)
    return float(y), float(x)


def _checked(probability: Slice, view: SliceView) -> Slice:
    array = np.asarray(probability, dtype=np.float32)
    if array.shape != view.shape:
        raise InputError(f"a network gave a slice of shape {array.shape}, slices are {view.shape}")
    return array
