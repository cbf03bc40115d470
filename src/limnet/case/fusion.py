"""Multi-round result fusion (MRF), eq. (1)-(4) of the LIM-Net paper; fusion by sign of the prompt; quality of slices.

Eq. (1) asks for the masks that maximise the sum over slices of P_i [M_i = previous] + (1 - P_i) [M_i = current],
with P_i = f(s_i, previous_i, current_i) (eq. 2, batched in eq. 3) the probability that the previous mask is the better
one. The sum has one independent term per slice, so the maximum takes the previous mask where P_i > 1/2; eq. (4) makes
that threshold tau a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.case.state import ObjectState, RoundContext, frozen_array
from limnet.errors import InputError
from limnet.image.slices import Slice, SliceMask, is_empty, unpack
from limnet.quality.assessor import Prompted

Found = dict[int, SliceMask | None]
"""Slices that a propagation computed; None for empty ones."""


def keep_previous(probability: ArrayLike, tau: float = 0.5) -> NDArray[np.bool_]:
    """Eq. (4): which of N slices keep the previous mask: those with P_i > tau; equality takes the new mask.

    Raises:
        InputError: a value is NaN or outside [0, 1], or there is more than one dimension.
    """
    p = np.asarray(probability, dtype=np.float64)
    if p.ndim != 1:
        raise InputError(f"one probability per slice is needed, got an array of shape {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("probabilities must lie in [0, 1] without NaN; check the quality network")
    if not 0 <= tau <= 1:
        raise InputError(f"tau is {tau}; it must lie in [0, 1]")
    return p > tau


def fuse(
    ctx: RoundContext,
    before: ObjectState,
    state: ObjectState,
    found: Mapping[int, SliceMask | None],
    masks: Mapping[int, Slice],
) -> tuple[Found, int]:
    """Choose per slice between this round's masks and those of the round before.

    Args:
        ctx: What to work with.
        before: State before the round; only masks of its known slices are rivals.
        state: State with the pending prompts.
        found: What propagation gave, never of prompted slices.
        masks: Masks of the prompted slices, for the quality network.

    Returns:
        The slices chosen, and the number of those that kept the previous mask.
    """
    view, settings, assessor = ctx.view_of(state), ctx.settings, ctx.assessor
    chosen = {
        i: before.slices[i] if new == before.slices[i] else new for i, new in found.items()
    }  # share what is equal
    rivals = [i for i in sorted(chosen) if i in before.known and chosen[i] is not before.slices[i]]
    if settings.tau >= 1 or not rivals:
        return chosen, 0
    newest = (state.pending or (state.rounds[-1].index,))[-1]
    newest = newest if newest in state.prompts else max(state.prompts)
    shown = {newest: unpack(state.slices[newest], view.shape), **masks}
    prompted = Prompted(newest, unpack(before.slices[newest], view.shape), shown)
    p: list[float] = []
    for start in range(0, len(rivals), settings.quality_batch):
        batch = rivals[start : start + settings.quality_batch]
        old, new = ([unpack(slices[i], view.shape) for i in batch] for slices in (before.slices, chosen))
        p += assessor.compare(view, batch, old, new, prompted).tolist()
    kept = [i for i, keep in zip(rivals, keep_previous(p, settings.tau), strict=True) if keep]
    for i in kept:
        old_mask = before.slices[i]
        # it may hold pixels of an object that was finished in the meantime
        chosen[i] = old_mask if ctx.excluded(i) is None else ctx.packed(i, unpack(old_mask, view.shape))
    return chosen, len(kept)


def prompt_sign(state: ObjectState) -> bool | None:
    """Whether the pending prompts only add (True: positive clicks) or only take away (False: all that are negative).

    None for anything else: positive strokes, outlines, boxes and masks show the object, and may do both.
    """
    newest = [state.prompts[index][-1] for index in state.pending]
    signs = {prompt.positive if prompt.kind == "click" or not prompt.positive else None for prompt in newest}
    return signs.pop() if len(signs) == 1 else None


def one_sided(
    ctx: RoundContext, before: ObjectState, state: ObjectState, positive: bool, found: Mapping[int, SliceMask | None]
) -> Found:
    """Fuse per pixel: after a positive click other slices only gain, after a negative prompt they only lose.

    A round computes the slices around the click anew, and what comes out differs everywhere from what was there, mostly
    by chance: where the user said that something is missing, nothing else has to go. After a negative click only what
    lies on the side of the error goes (`side_of_error`). Slices not known before the round are taken as `found`.
    """
    chosen, shape = dict(found), ctx.view.shape
    if not positive:
        sides = [side_of_error(*(unpack(s.slices[i], shape) for s in (before, state))) for i in state.pending]
        side = np.logical_or.reduce(sides)
    for index in chosen.keys() & before.known:
        old, new = unpack(before.slices[index], shape), unpack(found[index], shape)
        if positive:
            chosen[index] = ctx.packed(index, np.maximum(old, new))
        else:
            chosen[index] = ctx.packed(index, np.where(side, np.minimum(old, new), old))
    return chosen


def side_of_error(old: Slice, new: Slice) -> NDArray[np.bool_]:
    """Pixels of which the nearest one of a corrected slice's old mask went; all where nothing was there or stayed.

    `old` and `new` are the (H, W) probabilities of the prompted slice before the negative prompt and with it.
    """
    was, stays = old > 0.5, (old > 0.5) & (new > 0.5)
    if not stays.any():
        return np.ones_like(stays)
    from scipy import ndimage

    row, column = ndimage.distance_transform_edt(~was, return_distances=False, return_indices=True)
    return ~stays[row, column]


# quality of slices


_NEAR = 2  # empty slices this close to the object have a quality below 1


def with_quality(ctx: RoundContext, before: ObjectState, state: ObjectState) -> ObjectState:
    """The state with its quality brought up to date; unchanged slices keep theirs.

    Empty slices next to the object are rated like the nearest masks that nobody prompted: where an end is wrong, the
    masks before it are doubtful, while an empty mask itself tells nothing.
    """
    depth = len(state.slices)
    filled = {i for i in range(depth) if not is_empty(state.slices[i])}
    near = {j for i in filled for j in range(max(i - _NEAR, 0), min(i + _NEAR + 1, depth))}
    quality = np.ones(depth, dtype=np.float32)
    view = ctx.view_of(state)
    for i in (filled | near) - set(state.prompts):
        if i in filled and i not in before.prompts and state.slices[i] is before.slices[i]:
            quality[i] = before.quality[i]
        else:
            value = ctx.assessor.quality(view, i, unpack(state.slices[i], view.shape))
            quality[i] = np.clip(np.nan_to_num(value, nan=0.0), 0.0, 1.0)
    rated = filled - set(state.prompts)
    for i in near - filled - set(state.prompts):
        beside = [j for j in range(i - _NEAR, i + _NEAR + 1) if j in rated]
        nearest = min((abs(i - j) for j in beside), default=0)
        quality[i] = min([quality[j] for j in beside if abs(i - j) == nearest], default=quality[i])
    return replace(state, quality=frozen_array(quality))
