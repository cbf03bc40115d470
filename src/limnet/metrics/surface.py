"""How far the surfaces of two masks lie apart, in mm: MONAI's measures with the empty cases defined."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError
from limnet.metrics.overlap import check_masks


def normalized_surface_dice(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> float:
    """Share of both surfaces that lies within `tolerance` of the other one (NSD), 0 to 1.

    Surfaces are cut into elements between the voxel centres by marching cubes (lines by marching squares in 2D) and
    weighted by their area, as in DeepMind's surface-distance, which the CVPR 2025 challenge uses (at 2 mm). What lies
    outside the image is background, so an object cut off by the border has a surface there. Two empty masks agree: 1.
    One empty mask: 0.

    Args:
        pred: (D, H, W) or (H, W) bool, as is `truth`.
        spacing: Voxel size in mm along each axis, in array order.
        tolerance: Accepted distance in mm, 0 or more; a distance equal to it is accepted.

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
    taken in each direction by itself, with linear interpolation; the larger one is returned. Two empty masks agree: 0.

    Args:
        pred: (D, H, W) or (H, W) bool, as is `truth`.
        spacing: Voxel size in mm along each axis, in array order.
        empty: Value in mm where exactly one mask is empty and no distance exists. Infinite by default, so that a mean
            cannot hide such a case; give the diagonal of the image to have a finite one.

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


def _checked(pred: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]) -> list[float]:
    check_masks(pred, truth)
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
