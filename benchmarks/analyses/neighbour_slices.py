"""The mask of a slice nearby, as a start mask: what a user gets who takes over the last slice's contour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError, OutsideError


@dataclass(frozen=True)
class NeighbourSlice:
    """Which slice was taken.

    Attributes:
        axis: slice axis.
        index: the slice that was asked for.
        offset: the slice taken is `index + offset`; 0 where no other slice within reach shows the object.
    """

    axis: int
    index: int
    offset: int

    def apply(self, volume: ArrayLike) -> NDArray[np.bool_]:
        """Mask (H, W) of the taken slice of a mask volume (D, H, W); a copy."""
        return np.asarray(np.take(np.asarray(volume), self.index + self.offset, axis=self.axis) != 0)


def neighbour_slice(
    mask_volume: ArrayLike, index: int, axis: int, rng: np.random.Generator, reach: int = 3
) -> tuple[NDArray[np.bool_], NeighbourSlice]:
    """Draw a slice near `index` that shows the object.

    Args:
        mask_volume: (D, H, W), non-zero is the object.
        index: the slice for which a mask is wanted, counted from 0.
        axis: slice axis, 0 to 2.
        rng: source of randomness.
        reach: largest distance in slices, at least 1.

    Returns:
        The mask of the drawn slice, bool, and which one it is. All slices within reach that show the object, other
        than `index` itself, are equally likely; where there is none, the slice's own mask comes back.

    Raises:
        InputError: a volume that is not 3-D, an axis outside 0..2, a reach below 1.
        OutsideError: a slice that is not there.
    """
    volume = np.asarray(mask_volume)
    if volume.ndim != 3:
        raise InputError(f"mask_volume has shape {volume.shape}; give a volume (D, H, W)")
    if axis not in (0, 1, 2):
        raise InputError(f"axis is {axis!r}; a volume has the slice axes 0, 1 and 2")
    if reach < 1:
        raise InputError(f"reach is {reach!r}; give 1 slice or more")
    if not 0 <= index < volume.shape[axis]:
        raise OutsideError(f"slice {index} of axis {axis} does not exist; the volume has 0 to {volume.shape[axis] - 1}")
    first, last = max(index - reach, 0), min(index + reach, volume.shape[axis] - 1)
    slices = np.moveaxis(volume, axis, 0)
    shown = [i - index for i in range(first, last + 1) if i != index and slices[i].any()]
    offset = int(shown[rng.integers(len(shown))]) if shown else 0
    taken = NeighbourSlice(axis, int(index), offset)
    return taken.apply(volume), taken
