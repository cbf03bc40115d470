"""Robot user of the published 2D click counts: the next click is the deepest point of the larger error.

Exact Euclidean distances with a one-pixel border of zeros, so that the image border counts as the edge of an error
region. For volumes use the robot user that measures in mm; this one reproduces published numbers.

Source: the evaluation protocol of Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive
Segmentation", ICIP 2022.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

IGNORE = -1


def next_click(
    truth: ArrayLike, predicted: ArrayLike, clicked: Iterable[tuple[int, int]] = ()
) -> tuple[int, int, bool]:
    """The click that corrects a prediction (H, W) most: row, column, and whether it marks the object.

    The first pixel in row-major order that lies deepest inside the missed object or the false object, whichever is
    deeper; with equal depth the false object wins. Where nothing is wrong: (0, 0, False), every time.

    Args:
        truth: (H, W); 1 is the object, -1 is ignored, anything else is background.
        predicted: (H, W), non-zero is predicted object.
        clicked: (row, column) of earlier clicks, which are not clicked again.
    """
    true, found = np.asarray(truth), np.asarray(predicted).astype(bool)
    inside, counted = true == 1, true != IGNORE
    missed, false = _depth(inside & ~found & counted), _depth(~inside & found & counted)
    for row, column in clicked:
        missed[row, column] = false[row, column] = 0
    positive = bool(missed.max() > false.max())
    row, column = divmod(int((missed if positive else false).argmax()), true.shape[1])
    return row, column, positive


def _depth(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels of every region pixel to the nearest pixel outside; zero outside."""
    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
