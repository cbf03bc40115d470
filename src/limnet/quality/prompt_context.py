"""What the quality network sees: one window around the masks to be judged, also of prompted slices, and cues.

The two masks alone do not tell which object was meant. What the newest prompt changed tells what was wrong: a round
that changes this slice in the same way, or makes it more like a prompted slice, is more often the better one. The cues
are sums over the pixels of the window, so that a few thousand pairs teach a small network how to weigh them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limnet.image.slice_view import SliceView
from limnet.interaction.features import window_pixels
from limnet.interaction.window import Window, join, mask_box, window_around


@dataclass(frozen=True)
class Prompted:
    """The prompted slices of an object. The newest one shows what was wrong before the round and what is right.

    Attributes:
        newest: Index of the slice prompted last; a key of `masks`.
        before: (H, W) float32 probabilities of that slice before it was prompted.
        masks: Prompted slice -> its (H, W) float32 probabilities.
    """

    newest: int
    before: NDArray[np.float32]
    masks: Mapping[int, NDArray[np.float32]]

    def other(self, index: int) -> int | None:
        """The prompted slice nearest to slice `index` that is not the newest, None if there is none."""
        others = (i for i in sorted(self.masks) if i != self.newest)
        return min(others, key=lambda i: abs(i - index), default=None)


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


CUES = 33
_FEW = 8.0  # pixels added to areas before they are compared


def comparison_cues(image: Tensor, previous: Tensor, current: Tensor, references: Tensor) -> Tensor:
    """Compare two masks of slices with their prompted slices.

    Args:
        image: (B, C, H, W) in [0, 1].
        previous: (B, 1, H, W) mask of the round before, 0 or 1.
        current: (B, 1, H, W) mask of this round.
        references: (B, 2 C + 5, H, W) of `reference_crops`.

    Returns:
        (B, `CUES`) float32 of the order of 1: agreement of the change with the newest correction (5), overlaps of the
        masks with the prompted ones (9), areas (7), nearness of both prompted slices (2), brightness of the masks
        beside that of the prompted ones (6), and what is empty (4).
    """
    image, old, new, references = (x.float() for x in (image, previous, current, references))
    newest, before, after, other, near, nearness = split_references(references)
    grown, shrunk = (new - old).clamp_min(0), (old - new).clamp_min(0)
    added, removed = (after - before).clamp_min(0), (before - after).clamp_min(0)
    changed = (_area(grown) + _area(shrunk)).clamp_min(1)
    gray, newest_gray, other_gray = (x.mean(1, keepdim=True) for x in (image, newest, other))
    shown, seen = _mean(newest_gray, after), _mean(other_gray, near)
    agreement = [
        _area((new - old) * (after - before)) / changed,
        _area(grown * added) / _area(grown).clamp_min(1),
        _area(shrunk * removed) / _area(shrunk).clamp_min(1),
        _area(grown * removed) / changed,
        _area(shrunk * added) / changed,
    ]
    overlaps = [_dice(a, b) for a, b in ((new, after), (old, after), (new, near), (old, near), (old, before))]
    overlaps += [overlaps[0] - overlaps[1], overlaps[2] - overlaps[3], _dice(after, before), _dice(old, new)]
    pairs = ((new, old), (new, after), (old, after), (new, near), (old, near), (after, before))
    areas = [(_area(new) + 1).log() / 5 - 1, *(_ratio(a, b) for a, b in pairs)]
    brightness = [
        (_mean(gray, new) - shown).abs(),
        (_mean(gray, old) - shown).abs(),
        (_mean(gray, new) - seen).abs(),
        (_mean(gray, old) - seen).abs(),
        _mean(gray, grown) - shown,
        _mean(gray, shrunk) - shown,
    ]
    empty = [(_area(mask) == 0).float() for mask in (new, old, after, near)]
    return torch.stack(
        [*agreement, *overlaps, *areas, *nearness[:, :, 0, 0].unbind(1), *(3 * b for b in brightness), *empty], 1
    )


def _area(mask: Tensor) -> Tensor:
    return mask.flatten(1).sum(1)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    return 2 * _area(a * b) / (_area(a) + _area(b)).clamp_min(1)


def _mean(image: Tensor, mask: Tensor) -> Tensor:
    return _area(image * mask) / _area(mask).clamp_min(1)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return ((_area(a) + _FEW).log() - (_area(b) + _FEW).log()).clamp(-4, 4) / 2
