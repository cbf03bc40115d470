"""Where an object may lie: what boxes say, widened by what the user marks later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.case.history import ObjectState, Round
from limnet.case.planes import plane_of
from limnet.prompts import Box, Prompt, Scribble

Frame = tuple[slice, slice]


def slice_bounds(
    state: ObjectState, prompt: Prompt, indices: Iterable[int], shape: Sequence[int], axis: int
) -> tuple[int, int] | None:
    """First and last slice after a prompt: a thick box sets them, any other prompt outside widens them.

    So does a box or a positive lasso on another plane, if it is the object's first prompt.
    """
    plane = None if isinstance(prompt, Scribble) else plane_of(prompt, shape, axis)
    if plane is not None:
        own = plane.extent(axis) if plane.part.positive and not state.rounds else None
    else:
        own = prompt.range_along(axis) if isinstance(prompt, Box) else None
    bounds = own or state.bounds
    if bounds is None or getattr(prompt, "positive", True) is False:
        return bounds
    return min(bounds[0], *indices), max(bounds[1], *indices)


def frame_of(rounds: Sequence[Round], shape: Sequence[int], axis: int) -> Frame | None:
    """Rows and columns that the object may occupy on every slice; None without a thick box.

    Args:
        rounds: of the object, oldest first. The last thick box sets them, positive prompts after it widen them.
        shape: (D, H, W) of the volume.
        axis: of the slices.
    """
    corners: NDArray[np.int64] | None = None
    for number, done in enumerate(rounds):
        prompt = done.prompt
        if prompt is None:
            continue
        plane = None if isinstance(prompt, Scribble) else plane_of(prompt, shape, axis)
        if plane is not None and plane.part.positive and not number:
            sides = [(0, shape[a] - 1) if a == plane.axis else plane.extent(a) for a in range(3) if a != axis]
            corners = np.array(sides, dtype=np.int64).T
            continue
        thick = plane is None and isinstance(prompt, Box) and prompt.range_along(axis) is not None
        if not thick and (corners is None or getattr(prompt, "positive", True) is False):
            continue
        for _, part in (placed for told in done.stated for placed in told.on_slices(shape, axis)):
            points = np.argwhere(part.mask.array()) if part.mask is not None else np.asarray(part.points)
            if len(points):
                own = np.stack([np.floor(points.min(0)), np.ceil(points.max(0))]).astype(np.int64)
                known = own if corners is None or thick else corners
                corners = np.stack([np.minimum(known[0], own[0]), np.maximum(known[1], own[1])])
    if corners is None:
        return None
    (top, left), (bottom, right) = corners.tolist()
    return slice(top, bottom + 1), slice(left, right + 1)


def framed(probability: NDArray[np.float32], frame: Frame | None) -> NDArray[np.float32]:
    """(H, W) probabilities, 0 outside the frame."""
    if frame is None:
        return probability
    inside = np.zeros_like(probability)
    inside[frame] = probability[frame]
    return inside
