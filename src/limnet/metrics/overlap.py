"""Overlap of two masks: Dice and intersection over union."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError


def dice(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice coefficient, 2 |P and T| / (|P| + |T|), of bool masks (D, H, W) or (H, W): 0 to 1.

    Two empty masks agree: 1. One empty mask: 0.

    >>> dice(np.array([[True, True, False]]), np.array([[True, False, False]]))
    0.6666666666666666
    """
    check_masks(pred, truth)
    total = np.count_nonzero(pred) + np.count_nonzero(truth)
    return float(2 * np.count_nonzero(pred & truth) / total) if total else 1.0


def slice_dice(pred: NDArray[np.bool_], truth: NDArray[np.bool_], axis: int = 0) -> float:
    """Mean Dice of the slices along `axis` that hold the object, each slice counting alike; 1 where none does.

    >>> truth = np.array([[[1, 1]], [[1, 0]], [[0, 0]]], dtype=bool)
    >>> slice_dice(np.array([[[1, 1]], [[0, 0]], [[1, 1]]], dtype=bool), truth)
    0.5
    """
    check_masks(pred, truth)
    across = tuple(a for a in range(pred.ndim) if a != axis)
    sizes = truth.sum(across)
    held = sizes > 0
    scores = 2 * (pred & truth).sum(across)[held] / (sizes + pred.sum(across))[held]
    return float(scores.mean()) if held.any() else 1.0


def iou(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union (Jaccard index), |P and T| / |P or T|; masks and empty ones as of `dice`.

    >>> iou(np.array([[True, True, False]]), np.array([[True, False, False]]))
    0.5
    """
    check_masks(pred, truth)
    union = np.count_nonzero(pred | truth)
    return float(np.count_nonzero(pred & truth) / union) if union else 1.0


def check_masks(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    """InputTypeError for anything but bool arrays; InputError for shapes that differ, or are neither 2D nor 3D."""
    for name, mask in (("pred", pred), ("truth", truth)):
        if not isinstance(mask, np.ndarray):
            raise InputTypeError(f"{name} is a {type(mask).__name__}; a numpy array of bool is expected")
        if mask.dtype != bool:
            raise InputTypeError(
                f"{name} has dtype {mask.dtype}; bool is expected. Write labels == i or probability > 0.5"
            )
    if pred.shape != truth.shape:
        raise InputError(f"pred has shape {pred.shape}, truth {truth.shape}; they have to lie on the same grid")
    if pred.ndim not in (2, 3) or pred.size == 0:
        raise InputError(f"masks of shape {pred.shape} came; (D, H, W) or (H, W) with at least one voxel is expected")
