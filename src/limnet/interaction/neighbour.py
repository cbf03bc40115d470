"""The nearest other prompted slice: what it tells about the slice that is prompted now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limnet.image.slice_view import SliceView
from limnet.image.slices import SliceMask, is_empty, unpack

CLOSE = 0.2  # of the object's width on a slice: so close to it the object has not ended


@dataclass(frozen=True, eq=False)
class Neighbour:
    """The nearest other prompted slice that holds the object, as seen from a slice.

    Attributes:
        mask: (H, W) bool, its mask.
        surely: whether the object lies on the slice that is seen from, too: there are such slices on both sides of it,
            or the nearest one is closer than `CLOSE` of the width of its mask (the root of its area).
    """

    mask: NDArray[np.bool_]
    surely: bool = False


def neighbour(
    view: SliceView, slices: Sequence[SliceMask | None], prompted: Iterable[int], index: int
) -> Neighbour | None:
    """What the nearest other prompted slice tells about slice `index`; None if no other one holds the object.

    Args:
        view: volume along the case's axis.
        slices: results of all its slices.
        prompted: the prompted ones.
        index: slice to tell about.
    """
    held = [i for i in prompted if i != index and not is_empty(slices[i])]
    if not held:
        return None
    nearest = min(held, key=lambda i: abs(i - index))
    mask = unpack(slices[nearest], view.shape) > 0.5
    width = math.sqrt(np.count_nonzero(mask) * math.prod(view.spacing))
    surely = min(held) < index < max(held) or abs(nearest - index) * view.gap < CLOSE * width
    return Neighbour(mask, surely)
