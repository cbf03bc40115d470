"""Smaller and larger answers to the last prompt: what else the network saw at other scales and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.case.constraints import Constraints
from limnet.case.engine import RoundContext, Slice
from limnet.case.history import ObjectState, Round
from limnet.case.refinement import predict
from limnet.image.slices import is_empty, unpack
from limnet.interaction.agreement import agreement
from limnet.prompts import Prompt, Prompt2D

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


def other_answers(
    ctx: RoundContext, before: ObjectState, state: ObjectState, prompt: Prompt
) -> tuple[int, list[Slice]]:
    """Slice of a prompt on a single one, and the answers to it that a person can tell apart, smallest first.

    Args:
        ctx: What to work with.
        before: State before the prompt.
        state: State with it.
        prompt: A click, scribble, box or lasso on one slice.
    """
    [(index, part)] = prompt.on_slices(ctx.view.volume.shape, ctx.view.axis)
    view, limits = ctx.view_of(state), Constraints(ctx, (*before.rounds, Round(prompt, index)))
    own = [p for p in (*before.prompts.get(index, ()), part) if p.kind != "mask"]
    previous = None if is_empty(before.slices[index]) else unpack(before.slices[index], view.shape)
    prompts = {**before.prompts, index: own}
    given = limits.obeyed(predict(ctx, view, before.slices, prompts, index, previous), own)
    others = [limits.obeyed(answer, own) for answer in ctx.engine.predictor.looks(view, index, own, previous)]
    return index, [limits.obeyed(answer, own) for answer in distinct(given, others, own)]


def distinct(given: Slice, others: Sequence[Slice], prompts: Sequence[Prompt2D]) -> list[Slice]:
    """Answers that a person can tell apart, smallest first; the one given is among them, as it is.

    Args:
        given: (H, W) float32 probabilities of the answer given.
        others: Those of other looks.
        prompts: Prompts of the slice; of an answer to clicks only the pieces count that hold one.
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
