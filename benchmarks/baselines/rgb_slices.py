"""Slices as 8-bit RGB pictures, for networks made for photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.slice_view import SliceView


def rgb_slice(view: SliceView, index: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 picture of a slice through the view's window; gray values in all three channels."""
    image = view.image(index)
    planes = np.broadcast_to(image, (3, *image.shape[1:])) if image.shape[0] == 1 else image
    return np.ascontiguousarray(np.moveaxis(np.round(planes * 255).astype(np.uint8), 0, -1))
