"""What the quality network sees of a slice: one window around the masks to be judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.interaction.features import window_pixels
from limnet.interaction.window import join, mask_box, window_around
from limnet.view import SliceView

SIZE = 128
SHARE = 0.6  # all masks together take about this share of the window


def quality_crops(
    view: SliceView,
    index: int,
    masks: Sequence[NDArray[np.float32]],
    *,
    channels: int = 1,
    size: int = SIZE,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """The slice and hard masks in one window around all of the masks; the whole slice when all are empty.

    Args:
        view: volume along the case's axis.
        index: slice.
        masks: masks (H, W) of the slice, float32 probabilities.
        channels: 1 for grey pixels, 3 for RGB.
        size: side of the window in network pixels.
        device: where the result goes.

    Returns:
        Image (1, channels, size, size) in [0, 1], then one (1, 1, size, size) of 0 and 1 for each mask.
    """
    height, width = view.shape
    box = join(*(mask_box(m > 0.5) for m in masks)) or (0, height, 0, width)
    window = window_around(box, view.shape, view.spacing, size, SHARE)
    image = window_pixels(view, index, window, channels).to(device)
    return [image, *(window.crop((m > 0.5).astype(np.float32), edge=False).to(device) for m in masks)]
