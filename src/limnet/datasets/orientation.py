"""Slices first: bring volumes of any stored orientation into one, by flips and swaps of axes alone."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Plane = Literal["axial", "acquired", "stored"]

# Directions of columns, rows and slices for each normal of a slice: head and front on top, the patient's left at right.
_AXIAL, _CORONAL, _SAGITTAL = ("L", "P", "S"), ("L", "I", "P"), ("P", "I", "L")
_THICK = 1.5  # slices this much further apart than pixels were acquired in that plane


def display_axes(affine: NDArray[np.float64], plane: Plane) -> tuple[str, str, str] | None:
    """Patient directions in which columns, rows and slices shall run, or None to leave the array as it is stored.

    Args:
        affine: (4, 4), file index (x, y, z) -> RAS mm.
        plane: "axial" always takes slices from feet to head; "acquired" takes the plane in which slices are clearly
            further apart than pixels, axial where there is none; "stored" keeps the file's order.
    """
    import nibabel

    if plane == "stored":
        return None
    if plane == "acquired":
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        widest = int(np.argmax(steps))
        if steps[widest] > _THICK * np.delete(steps, widest).max():
            normal = int(nibabel.io_orientation(affine)[widest, 0])
            return (_SAGITTAL, _CORONAL, _AXIAL)[normal]
    return _AXIAL


def reorient(
    array: NDArray[Any], affine: NDArray[np.float64], axes: tuple[str, str, str] | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Swap and flip the axes of a volume, without resampling; its voxels stay where they are in the patient.

    Args:
        array: (D, H, W) or (D, H, W, 3), axis 0 the file's slowest.
        affine: (4, 4), reversed array index -> RAS mm.
        axes: from `display_axes`.

    Returns:
        The contiguous array, and its affine.
    """
    import nibabel

    if axes is None:
        return array, affine
    order = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes))
    space = array.transpose(2, 1, 0, *range(3, array.ndim))
    turned = nibabel.orientations.apply_orientation(space, order)
    moved = affine @ nibabel.orientations.inv_ornt_aff(order, space.shape[:3])
    return np.ascontiguousarray(turned.transpose(2, 1, 0, *range(3, array.ndim))), moved


def grids_apart(shape: tuple[int, int, int], first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """How many mm two grids of one shape (D, H, W) lie apart at the corner where it is most.

    Args:
        shape: of both.
        first: (4, 4), reversed array index -> mm.
        second: likewise, in the same world.
    """
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*shape[::-1], 1]
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())
