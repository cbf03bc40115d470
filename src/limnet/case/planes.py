"""Prompts drawn on another plane than the case's slices: what they say about the slices.

People look at sagittal and coronal planes of an axial case and mark there what they see. A stroke crosses many slices:
its pixels on every slice are a prompt of that slice. A box or an outline on such a plane is answered on the plane
itself; the answer tells how far the object reaches and where on the slices to click.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limnet.case.history import ObjectState
from limnet.image.slice_view import SliceView
from limnet.image.slices import dense_mask, is_empty
from limnet.interaction.prompt_maps import prompt_pixels
from limnet.prompts import Box, Click, Lasso, Prompt, Prompt2D, Scribble

ANSWERED = 3  # slices answered by themselves; 18 objects of training volumes: Dice .52 with 3, .48 with 1


@dataclass(frozen=True)
class Plane:
    """A box, outline or stroke as it lies on a plane across the slices.

    Attributes:
        axis: Axis of the volume that the plane cuts.
        index: Where.
        part: The prompt on it, (row, column) being the two other axes in their order.
    """

    axis: int
    index: int
    part: Prompt2D

    def extent(self, axis: int) -> tuple[int, int]:
        """First and last index along an axis of the volume, not the plane's own, that the prompt covers."""
        column = [a for a in range(3) if a != self.axis].index(axis)
        values = [point[column] for point in self.part.points]
        return min(values), max(values)


def plane_of(prompt: Prompt, shape: Sequence[int], axis: int) -> Plane | None:
    """The plane that a box, lasso or scribble was drawn on, if that is no slice of the case; None for anything else."""
    if isinstance(prompt, Box):
        flat = [a for a in range(3) if a != axis and prompt.lo[a] == prompt.hi[a] and shape[a] > 1]
        if len(flat) != 1 or prompt.lo[axis] == prompt.hi[axis]:
            return None
    elif isinstance(prompt, Lasso):
        if len({p[axis] for p in prompt.points}) == 1:
            return None
        flat = [a for a in range(3) if a != axis and len({p[a] for p in prompt.points}) == 1]
        if len(flat) != 1:
            return None
    elif isinstance(prompt, Scribble):
        touched = _touched(prompt)
        if len(touched[axis]) == 1:
            return None
        flat = [a for a in range(3) if a != axis and len(touched[a]) == 1]
        if len(flat) != 1:
            return None
    else:
        return None
    [(index, part)] = prompt.on_slices(shape, flat[0])
    return Plane(flat[0], index, part)


def _touched(stroke: Scribble) -> list[set[int]]:
    """Indices along each axis that a stroke touches."""
    if stroke.mask is None:
        return [{p[a] for p in stroke.points} for a in range(3)]
    voxels = stroke.mask.array()
    return [set(np.flatnonzero(voxels.any(axis=tuple(o for o in range(3) if o != a))).tolist()) for a in range(3)]


def click_for(prompt: Prompt, state: ObjectState, shape: Sequence[int], axis: int) -> Click | None:
    """The click on a slice that a prompt across the slices is taken as before anybody looks there; None for others."""
    if (gone := taken_away(prompt, shape, axis)) is not None:
        return negative_click(gone, dense_mask(state.slices, shape, axis))
    plane = None if isinstance(prompt, Scribble) else plane_of(prompt, shape, axis)
    if plane is None:
        return None
    point = [sum(plane.extent(a)) // 2 if a != plane.axis else plane.index for a in range(3)]
    return Click((point[0], point[1], point[2]), plane.part.positive)


def clicks_from(answer: NDArray[np.bool_], view: SliceView, plane: Plane) -> tuple[Click, ...]:
    """Clicks on a few slices that say what an answer on another plane shows (`limnet.case.refinement.answer_on`).

    Returns:
        Up to `ANSWERED` clicks and one on the slice with the longest part, which comes last; each in the middle of the
        longest run of pixels.
    """
    rows = np.flatnonzero(answer.any(axis=1)).tolist()
    runs = {row: _longest_run(answer[row]) for row in rows}
    middle_row = rows[len(rows) // 2]
    largest = max(rows, key=lambda row: (runs[row][1] - runs[row][0], -abs(row - middle_row)))
    clicks = []
    for row in (*sorted(set(spread(rows)) - {largest}), largest):
        point = [0, 0, 0]
        point[view.axis], point[plane.axis] = row, plane.index
        point[_along(view, plane)] = sum(runs[row]) // 2
        clicks.append(Click((point[0], point[1], point[2])))
    return tuple(clicks)


def _along(view: SliceView, plane: Plane) -> int:
    return 3 - view.axis - plane.axis


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

    It is taken as a negative click in the middle (`negative_click`), and these voxels are no object
    (`limnet.case.constraints.without_taken`).
    As a prompt on every slice it crosses, a thin line tells the network too little: of 12 objects of training volumes,
    after one click, 5 lost more than .02 of Dice by such a stroke and .047 on average.
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
    """A negative click in the middle of what a stroke or lasso takes away.

    Args:
        voxels: (N, 3) indices of the voxels under it.
        mask: (D, H, W) the object so far.
    """
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
    """Slices of a stroke through many, without a result so far, that wait for what is carried to them."""
    fresh = [i for i, part in placed if part.kind == "scribble" and part.positive and is_empty(state.slices[i])]
    fresh = [i for i in fresh if i not in state.known and i not in state.prompts]
    return set(fresh) - set(spread(sorted(fresh)))
