"""Constraints: what the prompts say for sure, whatever a network answers.

Clicked and drawn pixels keep their label; a thick box bounds the object along all three axes; an empty prompted slice
ends it; finished objects keep their voxels; voxels that a stroke across the slices took away stay away.

People also look at sagittal and coronal planes of an axial case and mark there what they see. A stroke crosses many
slices: its pixels on every slice are a prompt of that slice. A box or an outline on such a plane is answered on the
plane itself; the answer tells how far the object reaches and where on the slices to click.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.case.state import ObjectState, Round, RoundContext
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice, SliceMask, dense_mask, is_empty, pack, unpack
from limnet.interaction.prompt_maps import grow, prompt_pixels
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Prompt2D, Scribble
from limnet.settings import Scope

ANSWERED = 3  # slices answered by themselves; 18 objects of training volumes: Dice .52 with 3, .48 with 1

# A correction of a starting mask is propagated over this share of its slices to either side. On 8 proposals of
# hippocampus and ventricle the Dice after a click is .81 with it, .78 with half of the slices, and .66 with all.
_CORRECTED = 0.3


class Constraints:
    """The constraints of an object on every slice, from its rounds (oldest first, the running one included).

    Attributes:
        bounds: First and last slice the object may occupy, None without a thick box.
    """

    def __init__(self, ctx: RoundContext, rounds: Sequence[Round]) -> None:
        self.ctx, axis = ctx, ctx.view.axis
        extent = extent_of(rounds, ctx.view.volume.shape, axis)
        self.bounds = None if extent is None else extent[axis]
        self._frame = None
        if extent is not None:
            rows, columns = (slice(first, last + 1) for a, (first, last) in enumerate(extent) if a != axis)
            self._frame = rows, columns

    def inside(self, probability: Slice) -> Slice:
        """Probabilities of a slice, 0 outside the box; InputError if a network gave another shape."""
        array, shape = np.asarray(probability, dtype=np.float32), self.ctx.view.shape
        if array.shape != shape:
            raise InputError(f"a network gave a slice of shape {array.shape}, slices are {shape}")
        if self._frame is None:
            return array
        inside = np.zeros_like(array)
        inside[self._frame] = array[self._frame]
        return inside

    def obeyed(self, probability: Slice, prompts: Sequence[Prompt2D]) -> Slice:
        """Probabilities of a slice that obey the box and the slice's prompts, oldest first."""
        inside = self.inside(probability)
        return enforce(inside, prompts, self.ctx.settings.click_fallback) if prompts else inside

    def apply(self, index: int, probability: Slice, prompts: Sequence[Prompt2D] = ()) -> SliceMask | None:
        """Slice `index` as it is kept, all constraints on it."""
        return self.ctx.packed(index, self.obeyed(probability, prompts))


def enforce(probability: Slice, prompts: Sequence[Prompt2D], radius: int = 2) -> Slice:
    """Make a predicted slice obey its prompts, in the order they were given.

    Clicked and scribbled pixels get their label; where two prompts disagree on a pixel the later one holds. Where the
    network did not obey, a small disc around the pixel follows too, never over pixels marked otherwise. A negative
    lasso empties its region. Outside the last box or positive lasso there is no object, unless something outside it was
    marked as object.

    Args:
        probability: (H, W) float32 in [0, 1], as predicted; stays as it is.
        prompts: Prompts of this slice.
        radius: Radius in pixels of the disc.
    """
    shape = (int(probability.shape[0]), int(probability.shape[1]))
    wanted = np.zeros(shape, dtype=np.int8)
    lines = np.zeros(shape, dtype=bool)
    region: NDArray[np.bool_] | None = None
    for prompt in prompts:
        pixels = prompt_pixels(prompt, shape)
        if prompt.kind in ("click", "scribble"):
            wanted[pixels] = 1 if prompt.positive else -1
            lines |= pixels
        elif prompt.kind == "lasso" and not prompt.positive:
            wanted[pixels] = -1
        elif prompt.kind in ("box", "lasso"):
            region = pixels
    result = probability.copy()
    if region is not None and not (wanted[~region] == 1).any():
        result[~region] = 0.0
    missed = lines & (wanted == 1) & ~(result > 0.5)
    wrong = lines & (wanted == -1) & (result > 0.5)
    result[grow(missed, radius) & (wanted != -1)] = 1.0
    result[grow(wrong, radius) & (wanted != 1)] = 0.0
    result[(wanted == 1) & ~(result > 0.5)] = 1.0
    result[(wanted == -1) & (result > 0.5)] = 0.0
    return result


def obeys(mask: Slice | None, part: Prompt2D) -> bool:
    """Whether a slice (None: empty) already says what a stroke says; False for other prompts."""
    if part.mask is None:
        return False
    if mask is None:
        return not part.positive
    inside = mask[part.mask.array()] > 0.5
    return bool(inside.all() if part.positive else not inside.any())


def check_free(ctx: RoundContext, placed: Iterable[tuple[int, Prompt2D]]) -> None:
    """Refuse positive clicks on voxels of finished objects."""
    for index, part in placed:
        taken = ctx.excluded(index) if part.kind == "click" and part.positive else None
        if taken is not None and taken[part.points[0]]:
            raise InputError(
                f"slice {index}, pixel {part.points[0]} belongs to a finished object: "
                "click beside it, or reopen() that object"
            )


def extent_of(rounds: Sequence[Round], shape: Sequence[int], axis: int) -> tuple[tuple[int, int], ...] | None:
    """First and last index that the object may occupy along each axis of the volume; None without a thick box.

    The last thick box of the rounds (oldest first) sets the extent, positive prompts after it widen it. A box or a
    positive lasso on another plane sets it, too, if it is the object's first prompt. `shape` is (D, H, W).
    """
    corners: NDArray[np.int64] | None = None
    for number, done in enumerate(rounds):
        prompt = done.prompt
        plane = plane_of(prompt, shape, axis)
        if plane is not None and plane.part.positive and not number:
            sides = [(0, shape[a] - 1) if a == plane.axis else plane.extent(a) for a in range(3)]
            corners = np.array(sides, dtype=np.int64).T
        elif plane is None and isinstance(prompt, Box) and prompt.range_along(axis) is not None:
            corners = np.array([prompt.lo, prompt.hi])
        elif prompt is not None and corners is not None and getattr(prompt, "positive", True):
            for index, part in done.placed(shape, axis):
                points = np.argwhere(part.mask.array()) if part.mask is not None else np.asarray(part.points)
                if len(points):
                    voxels = np.insert(points, axis, index, axis=1)
                    corners = np.array([np.minimum(corners[0], voxels.min(0)), np.maximum(corners[1], voxels.max(0))])
    return None if corners is None else tuple((int(first), int(last)) for first, last in corners.T)


# slices that a round may compute


class Plan(NamedTuple):
    """What a propagation has to do.

    `prompts` are the prompted slices with their probabilities, ascending; on those `allowed` the object may lie; `work`
    holds slices to propagate from, each with the slices to compute.
    """

    prompts: dict[int, Slice]
    allowed: set[int]
    work: list[tuple[int, list[int]]]


def plan(state: ObjectState, masks: Mapping[int, Slice], scope: Scope, origins: Sequence[int]) -> Plan:
    """Which slices a propagation computes, and from which of `origins`, the new prompted slices, oldest first.

    `masks` are the probabilities of the slices that count as prompted. Scope "volume" goes to both ends, up to empty
    prompted slices, "interval" up to the next prompted ones.
    """
    depth = len(state.slices)
    filled = {i: not is_empty(state.slices[i]) for i in masks}
    allowed = supported(filled, depth, state.anchor, state.bounds)
    prompts = {i: masks[i] for i in sorted(masks)}
    if scope == "volume":
        origins = [i for i in origins if filled[i]][-1:]
        if state.bounds is not None:  # nothing is propagated beyond the bounds
            for i in (state.bounds[0] - 1, state.bounds[1] + 1):
                if 0 <= i < depth:
                    prompts.setdefault(i, np.zeros_like(next(iter(masks.values()))))
    work = [(i, [j for j in reach(filled, i, depth, scope) if j in allowed and j not in filled]) for i in origins]
    return Plan(prompts, allowed, [(origin, targets) for origin, targets in work if targets])


def supports(state: ObjectState) -> list[int]:
    """Slices of a starting mask that a correction is propagated up to, as if prompted: one on each side.

    Without them a click on one error of a good starting mask would propagate its own slice through the whole object.
    """
    if state.anchor is None or not state.pending:
        return []
    holding = [i for i, mask in enumerate(state.slices) if not is_empty(mask) and i not in state.prompts]
    apart, newest = max(1, round(_CORRECTED * len(holding))), state.pending[-1]
    below = [i for i in holding if i <= newest - apart]
    above = [i for i in holding if i >= newest + apart]
    return [*below[-1:], *above[:1]]


def supported(
    filled: Mapping[int, bool], depth: int, anchor: int | None = None, bounds: tuple[int, int] | None = None
) -> set[int]:
    """Slices on which the object may lie, prompted slices included.

    A stretch of slices between two neighbouring prompted ones (or an end of the volume) can hold object only if one of
    its two prompted slices does, or if it contains the anchor: a slice known to hold the object without a prompt.
    `filled` tells of the prompted slices which hold something; `bounds` are first and last slice allowed.
    """
    held = dict(filled)
    if anchor is not None:
        held.setdefault(anchor, True)
    result = {*filled, *([] if anchor is None else [anchor])}
    marks = sorted(held)
    for low, high in zip([-1, *marks], [*marks, depth], strict=True):
        if held.get(low, False) or held.get(high, False):
            result.update(range(low + 1, high))
    return result if bounds is None else {i for i in result if bounds[0] <= i <= bounds[1] or i in filled}


def reach(filled: Mapping[int, bool], origin: int, depth: int, scope: Scope) -> range:
    """Slices around a prompted one up to the nearest other prompted slice on each side (those excluded).

    In scope "volume" only empty ones count. An empty origin reaches only towards a prompted slice that is not empty.
    `filled` as for `supported`.
    """
    stops = [i for i, full in filled.items() if i != origin and (scope == "interval" or not full)]
    low = max((i for i in stops if i < origin), default=-1)
    high = min((i for i in stops if i > origin), default=depth)
    if not filled[origin]:
        low = low if filled.get(low, False) else origin - 1
        high = high if filled.get(high, False) else origin + 1
    return range(low + 1, high)


# planes across the slices


@dataclass(frozen=True)
class Plane:
    """A box or outline on slice `index` along another axis; `part` has the two other axes in their order."""

    axis: int
    index: int
    part: Prompt2D

    def extent(self, axis: int) -> tuple[int, int]:
        """First and last index along an axis of the volume, not the plane's own, that the prompt covers."""
        column = [a for a in range(3) if a != self.axis].index(axis)
        values = [point[column] for point in self.part.points]
        return min(values), max(values)


def plane_of(prompt: Prompt | None, shape: Sequence[int], axis: int) -> Plane | None:
    """The plane that a box or lasso was drawn on, if that is no slice of the case; None for anything else."""
    if not isinstance(prompt, (Box, Lasso)):
        return None
    flat = np.ptp((prompt.lo, prompt.hi) if isinstance(prompt, Box) else prompt.points, axis=0) == 0
    across = [a for a in range(3) if a != axis and flat[a] and (shape[a] > 1 or isinstance(prompt, Lasso))]
    if flat[axis] or len(across) != 1:
        return None
    [(index, part)] = prompt.on_slices(shape, across[0])
    return Plane(across[0], index, part)


def click_for(prompt: Prompt, state: ObjectState, shape: Sequence[int], axis: int) -> Click | None:
    """The click on a slice that a prompt across the slices is taken as before anybody looks there; None for others."""
    if (gone := taken_away(prompt, shape, axis)) is not None:
        return negative_click(gone, dense_mask(state.slices, shape, axis))
    plane = plane_of(prompt, shape, axis)
    if plane is None:
        return None
    z, y, x = (sum(plane.extent(a)) // 2 if a != plane.axis else plane.index for a in range(3))
    return Click((z, y, x), plane.part.positive)


def clicks_from(answer: NDArray[np.bool_], view: SliceView, plane: Plane) -> tuple[Click, ...]:
    """Clicks on a few slices that say what an answer on another plane shows (`limnet.case.rounds.answer_on`).

    Up to `ANSWERED` clicks and, last, one on the slice with the longest part; each in the middle of the longest run.
    """
    rows = np.flatnonzero(answer.any(axis=1)).tolist()
    runs = {row: _longest_run(answer[row]) for row in rows}
    middle_row = rows[len(rows) // 2]
    largest = max(rows, key=lambda row: (runs[row][1] - runs[row][0], -abs(row - middle_row)))
    clicks = []
    for row in (*sorted(set(spread(rows)) - {largest}), largest):
        point = [0, 0, 0]
        point[view.axis], point[plane.axis] = row, plane.index
        point[3 - view.axis - plane.axis] = sum(runs[row]) // 2
        clicks.append(Click((point[0], point[1], point[2])))
    return tuple(clicks)


def spread(slices: Sequence[int]) -> list[int]:
    """`ANSWERED` of some slices, at even distances, or all of them if they are fewer."""
    if len(slices) <= ANSWERED:
        return list(slices)
    return [slices[round(share * (len(slices) - 1))] for share in np.linspace(0, 1, ANSWERED + 2)[1:-1]]


def _longest_run(line: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last pixel of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best]) - 1


def taken_away(prompt: Prompt, shape: Sequence[int], axis: int) -> NDArray[np.intp] | None:
    """(N, 3) indices of the voxels under a negative stroke or lasso on a plane across the slices; None for others.

    It is taken as a negative click in the middle, and these voxels are no object (`without_taken`). As a prompt on
    every slice it crosses, a thin line tells the network too little: of 12 objects of training volumes, after one
    click, 5 lost more than .02 of Dice by such a stroke and .047 on average.
    """
    if isinstance(prompt, Lasso) and not prompt.positive:
        plane = plane_of(prompt, shape, axis)
        if plane is None:
            return None
        rows, columns = (int(n) for a, n in enumerate(shape[:3]) if a != plane.axis)
        pixels = np.argwhere(prompt_pixels(plane.part, (rows, columns)))
        return np.insert(pixels, plane.axis, plane.index, axis=1)
    if isinstance(prompt, Scribble) and not prompt.positive:
        voxels = prompt.voxels(shape)
        width = np.ptp(voxels, axis=0)
        return voxels if width[axis] and width.min() == 0 else None  # strokes on several slices stay prompts of each
    return None


def negative_click(voxels: NDArray[np.intp], mask: NDArray[np.bool_]) -> Click:
    """A negative click in the middle of what a stroke over `voxels` (N, 3) takes away from a mask (D, H, W)."""
    from scipy.ndimage import distance_transform_edt

    wrong = voxels[mask[tuple(voxels.T)]]
    wrong = wrong if len(wrong) else voxels
    corner, size = wrong.min(axis=0), np.ptp(wrong, axis=0) + 1
    margin = (size > 1).astype(np.intp)  # a plane has an inside, too
    region = np.zeros(tuple(size + 2 * margin), dtype=bool)
    region[tuple((wrong - corner + margin).T)] = True
    depth = distance_transform_edt(region)[tuple((wrong - corner + margin).T)]
    deepest = wrong[depth >= depth.max() - 1e-6]
    best = deepest[((deepest - wrong.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
    return Click((best[0], best[1], best[2]), False)


def answered_later(state: ObjectState, placed: list[tuple[int, Prompt2D]]) -> set[int]:
    """Slices of a stroke through many, without a result so far, that wait for what is propagated to them."""
    fresh = [i for i, part in placed if part.kind == "scribble" and part.positive and is_empty(state.slices[i])]
    fresh = [i for i in fresh if i not in state.known and i not in state.prompts]
    return set(fresh) - set(spread(sorted(fresh)))


def without_taken(state: ObjectState, shape: Sequence[int], axis: int, radius: int) -> ObjectState:
    """State after a round, without what negative strokes and lassos across the slices took away, until now.

    A click or stroke on one of these voxels that says it is object takes such a prompt back. Slices that the user
    stated or accepted stay as they are, and so do pixels marked as object, with a disc of `radius` where not obeyed.
    """
    taken: list[NDArray[np.intp]] = []
    for done in state.rounds:
        prompt = done.prompt
        if isinstance(prompt, MaskPrompt) and not prompt.frozen:
            taken = []  # a new beginning
        elif prompt is not None and (voxels := taken_away(prompt, shape, axis)) is not None:
            taken.append(voxels)
        elif taken and isinstance(prompt, (Click, Scribble)) and prompt.positive:
            marked = np.array([prompt.point]) if isinstance(prompt, Click) else prompt.voxels(shape)
            numbers = np.ravel_multi_index(tuple(marked.T), tuple(shape))
            taken = [v for v in taken if not np.isin(np.ravel_multi_index(tuple(v.T), tuple(shape)), numbers).any()]
    if not taken:
        return state
    every, across = np.concatenate(taken), [a for a in range(3) if a != axis]
    slices, size = list(state.slices), (int(shape[across[0]]), int(shape[across[1]]))
    for index in np.unique(every[:, axis]).tolist():
        told = state.prompts.get(index, ())
        probability = unpack(slices[index], size)
        pixels = tuple(every[every[:, axis] == index][:, across].T)
        if not any(p.kind == "mask" for p in told) and (probability[pixels] > 0.5).any():
            kept = probability.copy()
            kept[pixels] = 0
            slices[index] = pack(enforce(kept, told, radius) if told else kept)
    return replace(state, slices=tuple(slices))
