"""Robot user of the published 2D click counts: the next click is the deepest point of the larger error.

Exact Euclidean distances with a one-pixel border of zeros, so that the image border counts as the edge of an error
region. For volumes use the robot user that measures in mm; this one reproduces published numbers.

Source: the evaluation protocol of Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive
Segmentation", ICIP 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError

IGNORE = -1


class ReferenceClick(NamedTuple):
    """Pixel row and column of a click, and whether it marks the object (True) or background."""

    row: int
    column: int
    positive: bool


def next_click(truth: ArrayLike, predicted: ArrayLike, clicked: Iterable[tuple[int, int]] = ()) -> ReferenceClick:
    """The click that corrects the prediction most.

    Args:
        truth: (H, W); 1 is the object, -1 is ignored, anything else is background.
        predicted: (H, W), non-zero is predicted object.
        clicked: (row, column) of earlier clicks, which are not clicked again.

    Returns:
        The first pixel in row-major order that lies deepest inside the missed object or the false object, whichever
        is deeper; with equal depth the false object wins (a negative click). Where nothing is wrong: a negative click
        at (0, 0), every time.

    Raises:
        InputError: the two masks differ in shape or are not two-dimensional.
    """
    true = np.asarray(truth)
    found = np.asarray(predicted).astype(bool)
    if true.ndim != 2 or true.shape != found.shape:
        raise InputError(
            f"truth of shape {true.shape}, prediction of shape {found.shape}; both must be the same (H, W)"
        )
    inside, counted = true == 1, true != IGNORE
    missed = _depth(inside & ~found & counted)
    false = _depth(~inside & found & counted)
    for row, column in clicked:
        missed[row, column] = false[row, column] = 0
    positive = bool(missed.max() > false.max())
    row, column = divmod(int((missed if positive else false).argmax()), true.shape[1])
    return ReferenceClick(row, column, positive)


def _depth(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels of every region pixel to the nearest pixel outside; zero outside."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


class ReferenceClicker:
    """Robot user with memory: no pixel is clicked twice while anything else is wrong.

    Args:
        truth: (H, W); 1 is the object, -1 is ignored, anything else is background.
    """

    def __init__(self, truth: ArrayLike) -> None:
        self.truth = np.asarray(truth)
        self.clicks: list[ReferenceClick] = []

    def click(self, predicted: ArrayLike) -> ReferenceClick:
        """Looks at the prediction (H, W), clicks, and remembers the click. See `next_click`."""
        click = next_click(self.truth, predicted, [(click.row, click.column) for click in self.clicks])
        self.clicks.append(click)
        return click
