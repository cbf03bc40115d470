"""What the quality network sees of a slice: one window around the masks to be judged, also of prompted slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.image.slice_view import SliceView
from limnet.interaction.features import window_pixels
from limnet.interaction.window import Window, join, mask_box, window_around
from limnet.quality.prompted import Prompted

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
    window = _window(view, masks, size)
    image = window_pixels(view, index, window, channels).to(device)
    return [image, *(_hard(window, m).to(device) for m in masks)]


def reference_channels(channels: int) -> int:
    """Number of channels that `reference_crops` gives for images of 1 or 3 channels."""
    return 2 * channels + 5


def split_references(references: Tensor) -> tuple[Tensor, ...]:
    """Parts of what `reference_crops` gives, as views.

    Args:
        references: (B, 2 C + 5, H, W).

    Returns:
        Image (B, C, H, W) of the newest prompted slice, its mask before and after the prompt (B, 1, H, W), image and
        mask of the nearest other prompted slice, and how near both are (B, 2, H, W).
    """
    channels = (references.shape[1] - 5) // 2
    return references.split([channels, 1, 1, channels, 1, 2], 1)


def reference_crops(
    view: SliceView,
    index: int,
    masks: Sequence[NDArray[np.float32]],
    prompted: Prompted | None,
    *,
    channels: int = 1,
    size: int = SIZE,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Prompted slices through the window of `quality_crops`: what the user said on the same spot of other slices.

    Args:
        view: volume along the case's axis.
        index: slice to be judged.
        masks: its masks (H, W), float32 probabilities.
        prompted: what the user said; None for nothing.
        channels: 1 for grey pixels, 3 for RGB.
        size: side of the window in network pixels.
        device: where the result goes.

    Returns:
        (1, 2 channels + 5, size, size) in [0, 1]: image of the newest prompted slice, its mask before and after it was
        prompted, image of the nearest other prompted slice, its mask, and how near each of the two is: 1 / (1 + 4 d)
        with the distance d in sides of the window. Zeros for what there is not.
    """
    result = torch.zeros(1, reference_channels(channels), size, size)
    if prompted is None:
        return result.to(device)
    window = _window(view, masks, size)
    side = max(window.height * view.spacing[0], window.width * view.spacing[1])
    image, before, after, other_image, other_mask, nearness = split_references(result)
    newest, other = prompted.newest, prompted.other(index)
    image[:] = window_pixels(view, newest, window, channels)
    before[:] = _hard(window, prompted.before)
    after[:] = _hard(window, prompted.masks[newest])
    nearness[:, 0] = _nearness(index - newest, view.gap, side)
    if other is not None:
        other_image[:] = window_pixels(view, other, window, channels)
        other_mask[:] = _hard(window, prompted.masks[other])
        nearness[:, 1] = _nearness(index - other, view.gap, side)
    return result.to(device)


def _window(view: SliceView, masks: Sequence[NDArray[np.float32]], size: int) -> Window:
    height, width = view.shape
    box = join(*(mask_box(m > 0.5) for m in masks)) or (0, height, 0, width)
    return window_around(box, view.shape, view.spacing, size, SHARE)


def _hard(window: Window, mask: NDArray[np.float32]) -> Tensor:
    part, moved = window.seen((mask.shape[0], mask.shape[1]))
    return moved.crop((mask[part] > 0.5).astype(np.float32), edge=False)


def _nearness(slices: int, gap: float, side: float) -> float:
    return 1.0 / (1.0 + 4.0 * abs(slices) * gap / side)
