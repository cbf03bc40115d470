"""What every mask metric checks before it measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError


def check_masks(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    """Refuse anything but two bool masks of one shape.

    Args:
        pred: (D, H, W) or (H, W) bool.
        truth: The same shape, bool.

    Raises:
        InputTypeError: If one is no bool array.
        InputError: If the shapes differ, have no voxels, or are neither 2D nor 3D.
    """
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
