"""How large an object in a slice is, and by how much pixel amounts meant for 480-pixel slices shrink for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.errors import InputError

_TYPICAL_SIDE = 120.0  # pixels: side of an object that covers a sixteenth of a 480 x 480 slice
_TYPICAL_DEPTH = 40.0  # pixels: depth of such an object that is a little longer than wide


class ObjectScale(NamedTuple):
    """Measures of one object in one slice.

    Attributes:
        area: number of pixels.
        side: square root of the area, in pixels.
        depth: largest chessboard distance of an object pixel to the background (1 for a line of pixels).
        unit: factor for amounts in pixels that are meant for an object of typical size in a 480 x 480 slice.
    """

    area: int
    side: float
    depth: int
    unit: float

    def pixels(self, amount: float, least: float = 1.0) -> float:
        """An amount for 480-pixel slices in pixels of this object, at least `least`, rounded to 1/1000."""
        return round(max(least, amount * self.unit), 3)


def object_scale(mask: NDArray[np.bool_], literal: bool = False) -> ObjectScale:
    """Measure the object in a mask.

    Amounts shrink with the object's side (an object of 30 pixels moves by a quarter of what one of 120 does) and with
    its depth (a thin one moves less than a round one of the same area), and grow to at most what an object that spans
    half of the slice gets.

    Args:
        mask: bool (H, W) with at least one pixel set and one unset.
        literal: amounts in pixels stay what they are (`unit` is 1), whatever the object's size.

    Returns:
        The measures.

    Raises:
        InputError: an array that is not (H, W), or a mask without object or without background.
    """
    box = object_box(mask, 1)
    area = int(np.count_nonzero(mask))
    if area == mask.size:
        raise InputError("the mask fills the whole slice; give a slice with some background")
    depth = int(ndimage.distance_transform_cdt(mask[box], "chessboard").max())
    side = float(np.sqrt(area))
    unit = min(side / _TYPICAL_SIDE, depth / _TYPICAL_DEPTH, min(mask.shape) / (2 * _TYPICAL_SIDE))
    return ObjectScale(area, side, depth, 1.0 if literal else unit)


def object_box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Bounding box of the object in a mask (H, W), wider by `margin` pixels, cut at the edges of the slice.

    Raises:
        InputError: an array that is not (H, W), or an empty mask.
    """
    if mask.ndim != 2:
        raise InputError(f"mask has shape {mask.shape}; give one slice (H, W)")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise InputError("the mask is empty: there is nothing to damage. Give a slice that shows the object")
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, mask.shape[0])),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, mask.shape[1])),
    )


def border_pixels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Object pixels with a background pixel beside them; the edge of the slice is not background."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)
