"""Assessor: scores batches of slices for fusion (equation (3) of the paper) and for advice on the next slice.

The network sees one window around the masks to be judged, also of prompted slices: the two masks alone do not tell
which object was meant. What the newest prompt changed tells what was wrong: a round that changes this slice in the same
way, or makes it more like a prompted slice, is more often the better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice
from limnet.interaction.window import Window, WindowEncoder, join, mask_box, window_around, window_pixels
from limnet.quality.networks.tiny import reference_channels, split_references

SIZE = 128  # side of the windows in network pixels
SHARE = 0.6  # all masks together take about this share of the window
_SURE_OF_ITSELF = 2  # power of the expected Dice: masks are surer than right; chosen on objects of training volumes


@dataclass(frozen=True)
class Prompted:
    """The prompted slices of an object, with their (H, W) float32 probabilities.

    `newest` is the slice prompted last, which shows what was wrong before the round and what is right; `before` are its
    probabilities before it was prompted.
    """

    newest: int
    before: NDArray[np.float32]
    masks: Mapping[int, Slice]

    def other(self, index: int) -> int | None:
        """The prompted slice nearest to slice `index` that is not the newest, None if there is none."""
        others = (i for i in sorted(self.masks) if i != self.newest)
        return min(others, key=lambda i: abs(i - index), default=None)


class Assessor:
    """The quality network at work.

    Args:
        encoder: runs `TinyQuality` or `ResNetQuality`; None: the new mask is always taken (no fusion).
    """

    def __init__(self, encoder: WindowEncoder | None):
        self.encoder = encoder

    def compare(
        self,
        view: SliceView,
        indices: Sequence[int],
        previous: Sequence[Slice],
        current: Sequence[Slice],
        prompted: Prompted | None = None,
    ) -> NDArray[np.float32]:
        """Probability in [0, 1] that the previous mask is the better one, (n,) float32.

        It is .5 where both are equal, 0 without a network. All slices are one batch, eq. (3).

        Args:
            view: volume along the case's axis.
            indices: n slices.
            previous: n masks (H, W) of the round before, float32 probabilities.
            current: n masks of this round.
            prompted: what the user said, for networks with `references`.
        """
        if self.encoder is None:
            return np.zeros(len(indices), np.float32)
        result = np.full(len(indices), 0.5, np.float32)
        differs = [n for n in range(len(indices)) if ((previous[n] > 0.5) != (current[n] > 0.5)).any()]
        crops = [self._crops(self.encoder, view, indices[n], (previous[n], current[n]), prompted) for n in differs]
        if crops:
            with self.encoder.running():
                logits = self.encoder.network(*(torch.cat(parts) for parts in zip(*crops, strict=True)))
            result[differs] = torch.sigmoid(logits.float()).cpu().numpy()
        return result

    def quality(self, view: SliceView, index: int, mask: Slice) -> float:
        """Estimated Dice in [0, 1] of a mask (H, W) of slice `index`, float32 probabilities."""
        return expected_dice(mask) ** _SURE_OF_ITSELF

    def _crops(
        self, encoder: WindowEncoder, view: SliceView, index: int, masks: Sequence[Slice], prompted: Prompted | None
    ) -> list[Tensor]:
        """What the network takes: image, masks and, if it looks at them, prompted slices; (1, C, SIZE, SIZE) each."""
        channels = int(getattr(encoder.network, "image_channels", 3))
        crops = quality_crops(view, index, masks, channels=channels)
        if getattr(encoder.network, "references", False):
            crops.append(reference_crops(view, index, masks, prompted, channels=channels))
        return [crop.to(encoder.device) for crop in crops]


def expected_dice(mask: Slice) -> float:
    """Dice that the voxels above 0.5 of probabilities (H, W) have on average if every voxel's probability is right.

    The expectations of overlap and of size are divided, as for many independent voxels. Of an empty mask: the
    probability that its likeliest voxel is background.
    """
    hard = mask > 0.5
    inside = float(mask[hard].sum())
    if not inside:
        return 1.0 - float(mask.max(initial=0.0))
    return 2.0 * inside / (float(hard.sum()) + float(mask.sum()))


# windows


def quality_crops(
    view: SliceView,
    index: int,
    masks: Sequence[Slice],
    *,
    channels: int = 1,
    size: int = SIZE,
) -> list[Tensor]:
    """The slice and hard masks in one window around all of the masks; the whole slice when all are empty.

    Image (1, channels, size, size) in [0, 1], then one (1, 1, size, size) of 0 and 1 for each mask.
    """
    window = _window(view, masks, size)
    return [window_pixels(view, index, window, channels), *(_hard(window, m) for m in masks)]


def reference_crops(
    view: SliceView,
    index: int,
    masks: Sequence[Slice],
    prompted: Prompted | None,
    *,
    channels: int = 1,
    size: int = SIZE,
) -> Tensor:
    """Prompted slices through the window of `quality_crops`: what the user said on the same spot of other slices.

    (1, 2 channels + 5, size, size) in [0, 1]: image of the newest prompted slice, its mask before and after it was
    prompted, image of the nearest other prompted slice, its mask, and how near each of the two is: 1 / (1 + 4 d) with
    the distance d in sides of the window. Zeros for what there is not.
    """
    result = torch.zeros(1, reference_channels(channels), size, size)
    if prompted is None:
        return result
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
    return result


def _window(view: SliceView, masks: Sequence[Slice], size: int) -> Window:
    height, width = view.shape
    box = join(*(mask_box(m > 0.5) for m in masks)) or (0, height, 0, width)
    return window_around(box, view.shape, view.spacing, size, SHARE)


def _hard(window: Window, mask: NDArray[np.float32]) -> Tensor:
    part, moved = window.seen((mask.shape[0], mask.shape[1]))
    return moved.crop((mask[part] > 0.5).astype(np.float32), edge=False)


def _nearness(slices: int, gap: float, side: float) -> float:
    return 1.0 / (1.0 + 4.0 * abs(slices) * gap / side)
