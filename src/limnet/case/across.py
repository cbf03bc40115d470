"""Looking across: the two planes through a click that stand on its slice tell how far the object reaches.

A sweep from slice to slice does not know where an object ends when its neighbour looks alike (vertebra after vertebra,
spleen to bowel); on the planes across, the same click shows both of its ends at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.case.engine import Predictor
from limnet.image.slice_view import SliceView
from limnet.prompts import Prompt2D

LEAST_SLICES = 3  # thinner stacks show nothing across

Reach = tuple[int, int]


def look_across(predictor: Predictor, view: SliceView, index: int, point: tuple[int, int]) -> Reach | None:
    """First and last slice of the object at a click, from the interaction network on the two planes across.

    Args:
        predictor: interaction at work.
        view: volume along the case's axis, with the object's intensity window.
        index: the clicked slice.
        point: (row, column) of the click there.

    Returns:
        The slices that either plane shows the object on, always with `index`; None where nothing can be seen: films,
        colour volumes, fewer than 3 slices, or no object at the click on both planes.
    """
    if len(view) < LEAST_SLICES or view.volume.is_color:
        return None
    found: Reach | None = None
    down, right = (axis for axis in range(3) if axis != view.axis)
    for axis, other, across, along in ((down, right, point[0], point[1]), (right, down, point[1], point[0])):
        plane = SliceView(view.volume, axis, view.window)
        first = view.axis < other  # whether slices are the plane's rows
        spot = (index, along) if first else (along, index)
        mask = predictor.predict(plane, across, [Prompt2D("click", True, (spot,))], None) > 0.5
        found = joined(found, _run(mask if first else mask.T, index, along))
    return found


def joined(a: Reach | None, b: Reach | None) -> Reach | None:
    """The smallest reach that holds both; None where nothing is known adds nothing."""
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def _run(mask: NDArray[np.bool_], row: int, column: int) -> Reach | None:
    """First and last row of the piece of a mask that holds a pixel; None where the mask does not hold it."""
    from scipy import ndimage

    if not mask[row, column]:
        return None
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    rows = np.flatnonzero((pieces == pieces[row, column]).any(1))
    return int(rows[0]), int(rows[-1])
