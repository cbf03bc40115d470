"""How well two masks agree: Dice, intersection over union, and how far their surfaces lie apart, in mm.

Surface measures are MONAI's with the empty cases defined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError


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
    _check_masks(pred, truth)
    total = np.count_nonzero(pred) + np.count_nonzero(truth)
    return float(2 * np.count_nonzero(pred & truth) / total) if total else 1.0


def slice_dice(pred: NDArray[np.bool_], truth: NDArray[np.bool_], axis: int = 0) -> float:
    """Mean Dice of the slices that hold the object, each slice counting alike.

    >>> truth = np.array([[[1, 1]], [[1, 0]], [[0, 0]]], dtype=bool)
    >>> slice_dice(np.array([[[1, 1]], [[0, 0]], [[1, 1]]], dtype=bool), truth)
    0.5

    Args:
        pred: (D, H, W) bool.
        truth: The same shape, bool.
        axis: Slice axis.

    Returns:
        0 to 1; 1 where no slice holds the object.

    Raises:
        InputError: Masks of different shapes, or not 3D.
        InputTypeError: Anything but bool arrays.
    """
    _check_masks(pred, truth)
    across = tuple(a for a in range(pred.ndim) if a != axis)
    sizes = truth.sum(across)
    held = sizes > 0
    scores = 2 * (pred & truth).sum(across)[held] / (sizes + pred.sum(across))[held]
    return float(scores.mean()) if held.any() else 1.0


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
    _check_masks(pred, truth)
    union = np.count_nonzero(pred | truth)
    return float(np.count_nonzero(pred & truth) / union) if union else 1.0


def normalized_surface_dice(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> float:
    """Share of both surfaces that lies within `tolerance` of the other one (NSD).

    Surfaces are cut into elements between the voxel centres by marching cubes (lines by marching squares in 2D) and
    weighted by their area, as in DeepMind's surface-distance, which the CVPR 2025 challenge uses (at 2 mm). What lies
    outside the image is background, so an object cut off by the border has a surface there.

    Args:
        pred: (D, H, W) or (H, W) bool.
        truth: The same shape, bool.
        spacing: Voxel size in mm along each axis, in array order.
        tolerance: Accepted distance in mm, 0 or more; a distance equal to it is accepted.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask: 0.

    Raises:
        InputError: Masks of different shapes, or neither 2D nor 3D; a spacing or tolerance that is none.
        InputTypeError: Anything but bool arrays.

    References:
        Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy for
        radiotherapy", arXiv:1809.04430.

    Example:
        >>> moved = np.roll(ball, 1, axis=2)
        >>> normalized_surface_dice(moved, ball, spacing=(5.0, 1.0, 1.0), tolerance=2.0)
        1.0
    """
    steps = _checked(pred, truth, spacing)
    if isinstance(tolerance, bool) or not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"tolerance is {tolerance!r}; give a distance of 0 mm or more, such as 2.0")
    if not pred.any() or not truth.any():
        return float(pred.any() == truth.any())
    import torch
    from monai.metrics import compute_surface_dice

    one, other = (torch.from_numpy(part)[None, None] for part in _cropped(pred, truth))
    limits = [float(tolerance)]
    found = compute_surface_dice(one, other, limits, include_background=True, spacing=steps, use_subvoxels=True)
    return float(found)


def hausdorff95(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], empty: float = math.inf
) -> float:
    """95th percentile of the distances from each border voxel of one mask to the nearest of the other, in mm (HD95).

    Border voxels are voxels of the mask with a face neighbour outside of it (or outside the image). The percentile is
    taken in each direction by itself, with linear interpolation; the larger one is returned.

    Args:
        pred: (D, H, W) or (H, W) bool.
        truth: The same shape, bool.
        spacing: Voxel size in mm along each axis, in array order.
        empty: Value in mm where exactly one mask is empty and no distance exists. Infinite by default, so that a mean
            cannot hide such a case; give the diagonal of the image to have a finite one.

    Returns:
        Distance in mm. Two empty masks agree: 0. One empty mask: `empty`.

    Raises:
        InputError: Masks of different shapes, or neither 2D nor 3D; a spacing that is none.
        InputTypeError: Anything but bool arrays.

    Example:
        >>> hausdorff95(np.roll(ball, 1, axis=2), ball, spacing=(5.0, 1.0, 1.0))
        1.0
    """
    steps = _checked(pred, truth, spacing)
    if not pred.any() or not truth.any():
        return 0.0 if pred.any() == truth.any() else float(empty)
    import torch
    from monai.metrics import compute_hausdorff_distance

    one, other = (torch.from_numpy(part)[None, None] for part in _cropped(pred, truth))
    return float(compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=steps))


def _check_masks(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
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


def _checked(pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]) -> list[float]:
    _check_masks(pred, truth)
    try:
        steps = [] if isinstance(spacing, (str, bytes)) else [float(s) for s in spacing]
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"spacing is {spacing!r}; give {pred.ndim} numbers in mm, in array order") from error
    if len(steps) != pred.ndim or not all(math.isfinite(s) and s > 0 for s in steps):
        raise InputError(f"spacing is {spacing!r}; give {pred.ndim} positive numbers in mm, in array order")
    return steps


def _cropped(*masks: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Masks cut to the box round all of them. MONAI pads it by one voxel of background, so no surface changes."""
    union = np.logical_or.reduce(masks)
    box = []
    for axis in range(union.ndim):
        held = np.flatnonzero(union.any(axis=tuple(a for a in range(union.ndim) if a != axis)))
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    return [np.ascontiguousarray(mask[tuple(box)]) for mask in masks]
