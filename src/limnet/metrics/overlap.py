"""Overlap of two masks: Dice and intersection over union."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.metrics.masks import check_masks


def dice(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice coefficient, 2 |P and T| / (|P| + |T|).

    >>> dice(np.array([[True, True, False]]), np.array([[True, False, False]]))
    0.6666666666666666

    Args:
        pred: (D, H, W) or (H, W) bool.
        truth: The same shape, bool.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask: 0.

    Raises:
        InputError: Masks of different shapes, or neither 2D nor 3D.
        InputTypeError: Anything but bool arrays.
    """
    check_masks(pred, truth)
    total = np.count_nonzero(pred) + np.count_nonzero(truth)
    return float(2 * np.count_nonzero(pred & truth) / total) if total else 1.0


def iou(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union (Jaccard index), |P and T| / |P or T|.

    >>> iou(np.array([[True, True, False]]), np.array([[True, False, False]]))
    0.5

    Args:
        pred: (D, H, W) or (H, W) bool.
        truth: The same shape, bool.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask: 0.

    Raises:
        InputError: Masks of different shapes, or neither 2D nor 3D.
        InputTypeError: Anything but bool arrays.
    """
    check_masks(pred, truth)
    union = np.count_nonzero(pred | truth)
    return float(np.count_nonzero(pred & truth) / union) if union else 1.0
