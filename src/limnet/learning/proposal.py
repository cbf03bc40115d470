"""A first mask of a new case without a click: the learned prompt half looks at every slice, wide and then near."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from limnet.image.slice_view import SliceView
from limnet.interaction.features import WindowEncoder, window_size
from limnet.interaction.window import Window, mask_box, window_of_side
from limnet.learning.adapter import Adapter, unprompted

STRIDE_MM = 2.5  # slices at least this far apart are looked at, those between are interpolated
_CRUMB = 0.2  # components smaller than this share of the largest are no part of an object of one piece
_NEAR = 0.8  # a second, nearer look pays where the object's window is smaller than this share of the slice


def propose(adapter: Adapter, encoder: WindowEncoder, view: SliceView) -> NDArray[np.float32]:
    """Probabilities (slices, H, W) of the learned object in a volume.

    Args:
        adapter: The learned task; it has to fit the network.
        encoder: Image half of the click network, with its cache.
        view: The volume along the case's axis, in the window to look with.
    """
    half = adapter.prompt_half(encoder.network).to(encoder.device)
    shape, spacing, depth = view.shape, view.spacing, len(view)
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    wide = window_of_side(longest, (shape[0] / 2, shape[1] / 2), shape, spacing, window_size(encoder.network))
    stride = max(1, int(STRIDE_MM / view.gap))
    looked = sorted({*range(0, depth, stride), depth - 1})
    found = np.zeros((depth, *shape), np.float32)
    for index in looked:
        found[index] = _look(encoder, half, view, index, wide)
    _interpolate(found, looked)
    main = main_parts(found > 0.5, adapter.single)
    if adapter.side < _NEAR * longest and main.any():
        near = np.zeros_like(found)
        for index in looked:
            around = main[max(index - stride, 0) : index + stride + 1]
            box = mask_box(np.asarray(around.any(axis=0)))
            if box is not None:
                centre = ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
                window = window_of_side(adapter.side, centre, shape, spacing, window_size(encoder.network))
                near[index] = _look(encoder, half, view, index, window)
        found = near
        _interpolate(found, looked)
        main = main_parts(found > 0.5, adapter.single)
    return np.where(main | (found <= 0.5), found, np.float32(0))


def main_parts(mask: NDArray[np.bool_], single: bool) -> NDArray[np.bool_]:
    """The mask without its small components if the object is known to be one piece."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if not single or count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= _CRUMB * sizes.max())[labels] & mask)


def _look(encoder: WindowEncoder, half: nn.Module, view: SliceView, index: int, window: Window) -> NDArray[np.float32]:
    """Probabilities (H, W) of one slice; 0 outside the window."""
    features = encoder.features(view, index, window)
    with encoder.running():
        logits = unprompted(encoder.network, features, window.size, half)
    return window.paste(logits, np.zeros(view.shape, np.float32))


def _interpolate(found: NDArray[np.float32], looked: list[int]) -> None:
    """Fill the slices between those looked at, linearly."""
    for low, high in itertools.pairwise(looked):
        for index in range(low + 1, high):
            part = np.float32((index - low) / (high - low))
            found[index] = (1 - part) * found[low] + part * found[high]
