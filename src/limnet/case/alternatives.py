"""Smaller and larger answers to the last prompt: what else the network saw at other scales and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.case.constraints import Constraints
from limnet.case.rounds import accept_slice, apply_prompt, predict, propagate_prompts
from limnet.case.state import ObjectState, Round, RoundContext
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice, is_empty, unpack
from limnet.interaction.predictor import agreement
from limnet.prompts import MaskPrompt, Prompt, Prompt2D
from limnet.settings import Scope

THRESHOLDS = (0.1, 0.25, 0.75, 0.9)  # of the answer given: how far its border can be moved without another look
SAME = 0.93  # Dice from which on two answers look the same to a person
MOST = 6  # answers offered, the one given included


@dataclass(frozen=True, eq=False)
class Alternative:
    """One answer to the last prompt.

    Attributes:
        index: Slice of the prompt along the case's axis.
        mask: (H, W) bool.
        area: Number of its pixels.
        chosen: Whether it is the present one.
    """

    index: int
    mask: NDArray[np.bool_]
    area: int
    chosen: bool


def alternatives(ctx: RoundContext, past: Sequence[ObjectState]) -> list[Alternative]:
    """The answers to the last prompt of an object, smallest first; empty where there is no choice.

    `past` are the states of the object up to the present one, oldest first.
    """
    last = last_answer(ctx.view, past)
    if last is None:
        return []
    index, answers = _answers(ctx, last, past[-1])
    present = unpack(past[-1].slices[index], ctx.view.shape) > 0.5
    masks = [answer > 0.5 for answer in answers]
    found = [Alternative(index, m, int(m.sum()), bool(np.array_equal(m, present))) for m in masks]
    return found if len(found) > 1 else []


def choose(ctx: RoundContext, past: Sequence[ObjectState], number: int) -> ObjectState:
    """State with the last round done over by an alternative, whose slice is accepted; InputError without it."""
    last = last_answer(ctx.view, past)
    if last is None:
        raise InputError("there are no other answers to choose from: they belong to a prompt just given on one slice")
    index, answers = _answers(ctx, last, past[-1])
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < len(answers):
        raise InputError(f"alternative {number!r} came: there are 0..{len(answers) - 1}, see alternatives()")
    new = apply_prompt(ctx, last.before, last.prompt, last.scope is not None, {index: answers[number]})
    if last.scope is not None:
        new = propagate_prompts(ctx, last.before, new, last.scope)
    return replace(accept_slice(ctx, new, index), name=past[-1].name)  # it may have been renamed since


class _Last(NamedTuple):
    """The last prompt, on a single slice: the state before it, and the scope it was propagated with."""

    before: ObjectState
    prompt: Prompt
    scope: Scope | None


def last_answer(view: SliceView, past: Sequence[ObjectState]) -> _Last | None:
    """The last prompt, if that was one on a single slice and no other slice was accepted since."""
    rounds = past[-1].rounds if past else ()
    number = max((i for i, done in enumerate(rounds) if not done.accepted), default=None)
    if number is None:
        return None
    done, prompt = rounds[number], rounds[number].prompt
    if prompt is None or isinstance(prompt, MaskPrompt) or done.marks:
        return None
    if any(later.index != done.index for later in rounds[number + 1 :]):
        return None
    if len(prompt.on_slices(view.volume.shape, view.axis)) != 1:
        return None
    earlier = [state for state in past if state.rounds == rounds[:number]]
    return _Last(earlier[-1], prompt, done.scope) if earlier else None


def _answers(ctx: RoundContext, last: _Last, state: ObjectState) -> tuple[int, list[Slice]]:
    """Slice of the last prompt, and the answers to it that a person can tell apart, smallest first."""
    before = last.before
    [(index, part)] = last.prompt.on_slices(ctx.view.volume.shape, ctx.view.axis)
    view, limits = ctx.view_of(state), Constraints(ctx, (*before.rounds, Round(last.prompt, index)))
    own = [p for p in (*before.prompts.get(index, ()), part) if p.kind != "mask"]
    previous = None if is_empty(before.slices[index]) else unpack(before.slices[index], view.shape)
    prompts = {**before.prompts, index: own}
    given = limits.obeyed(predict(ctx, view, before.slices, prompts, index, previous), own)
    others = [limits.obeyed(answer, own) for answer in ctx.predictor.looks(view, index, own, previous)]
    return index, [limits.obeyed(answer, own) for answer in distinct(given, others, own)]


def distinct(given: Slice, others: Sequence[Slice], prompts: Sequence[Prompt2D]) -> list[Slice]:
    """Answers (H, W) that a person can tell apart, smallest first; the one given is among them, as it is.

    `others` are those of other looks. Of an answer to clicks only the pieces count that hold one.
    """
    found = [given]
    moved = [_moved(given, threshold) for threshold in THRESHOLDS]
    # the answer of another scale before one that only moves the border
    for answer in (_held(a, prompts) for a in (*others, *moved)):
        mask = answer > 0.5
        if len(found) < MOST and mask.any() and all(agreement(mask, other > 0.5) < SAME for other in found):
            found.append(answer)
    return sorted(found, key=lambda answer: int((answer > 0.5).sum()))


def _moved(probability: Slice, threshold: float) -> Slice:
    """Probabilities that are above 0.5 where the given ones are above a threshold."""
    below = probability / (2 * threshold)
    above = 1 - (1 - probability) / (2 * (1 - threshold))
    return np.where(probability > threshold, above, below).astype(np.float32)


def _held(answer: Slice, prompts: Sequence[Prompt2D]) -> Slice:
    """Without the pieces that hold no positive click, where there are clicks only."""
    clicks = [p.points[0] for p in prompts if p.kind == "click" and p.positive]
    if not clicks or any(p.kind != "click" for p in prompts):
        return answer
    pieces, _ = ndimage.label(answer > 0.5, np.ones((3, 3)))
    wanted = {int(pieces[point]) for point in clicks} - {0}
    if not wanted:
        return answer
    return np.where((pieces > 0) & ~np.isin(pieces, list(wanted)), np.float32(0), answer)
