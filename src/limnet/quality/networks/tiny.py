"""TinyQuality: which of two masks of a slice is better, judged by what prompted slices show, and how good one is."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import PlainBlock, pad_to_stride, weight_dtype
from limnet.errors import InputError

CUES = 33
_FEW = 8.0  # pixels added to areas before they are compared


class TinyQuality(nn.Module):
    """One scorer looks at a mask beside its rival; the difference of both scores is the logit of equation (2).

    There is no batch normalisation: the same layers see pairs of masks and single masks, whose statistics differ.

    Args:
        image_channels: 1 for grey slices, 3 for RGB.
        widths: channels at strides 4, 8, 16.
        references: whether it also sees prompted slices (`limnet.quality.assessor.reference_crops`).
    """

    def __init__(self, image_channels: int = 1, widths: tuple[int, ...] = (48, 96, 128), references: bool = False):
        super().__init__()
        self.config: dict[str, Any] = {
            "image_channels": image_channels,
            "widths": list(widths),
            "references": references,
        }
        self.image_channels, self.references = image_channels, references
        self.reference_channels = reference_channels(image_channels) if references else 0
        a, b, c = widths
        seen = image_channels + 3 + self.reference_channels
        layers: list[nn.Module] = [nn.Conv2d(16 * seen, a, 3, padding=1), nn.ReLU(), PlainBlock(a)]
        for before, after, depth in ((a, b, 1), (b, c, 2)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU(), *(PlainBlock(after) for _ in range(depth))]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * c, 64), nn.ReLU(), nn.Linear(64, 2))
        self.dropout = nn.Dropout(0.5 if references else 0.0)  # pixels of a few volumes are soon known by heart
        if references:
            self.cues = nn.Sequential(nn.Linear(CUES, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))

    def _judge(self, image: Tensor, mask: Tensor, rival: Tensor, references: Tensor) -> Tensor:
        """(B, 2): score against the rival, and logit of the mask's own quality; references as `_known` gives them."""
        stacked = torch.cat([image * 2 - 1, mask * 2 - 1, rival * 2 - 1, mask - rival, references * 2 - 1], 1)
        stacked = pad_to_stride(stacked.to(weight_dtype(self)), 16)
        x = self.body(functional.pixel_unshuffle(stacked, 4)).float()
        pooled = self.dropout(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return self.head(pooled.to(weight_dtype(self))).float()

    def forward(self, image: Tensor, previous: Tensor, current: Tensor, references: Tensor | None = None) -> Tensor:
        """Logit (B,) float32 that the previous mask is the better one.

        Without references forward(image, a, b) = -forward(image, b, a); with them the newer mask has the better odds.

        Args:
            image: (B, C, H, W) in [0, 1].
            previous: (B, 1, H, W) mask or probability of the round before.
            current: (B, 1, H, W) of this round.
            references: (B, 2 C + 5, H, W) of `reference_crops`; None for none. Networks made without them ignore it.

        Raises:
            InputError: references of another shape.
        """
        known = self._known(image, references)
        logit = self._judge(image, previous, current, known)[:, 0] - self._judge(image, current, previous, known)[:, 0]
        if not self.references:
            return logit
        cues = comparison_cues(image, previous, current, known)
        return logit + self.cues(cues.to(weight_dtype(self)))[:, 0].float()

    def _known(self, image: Tensor, references: Tensor | None) -> Tensor:
        """(B, `reference_channels`, H, W): what was given, zeros for nothing, no channels for networks without any."""
        shape = (len(image), self.reference_channels, *image.shape[2:])
        if references is None or not self.references:
            return image.new_zeros(shape)
        if tuple(references.shape) != shape:
            raise InputError(f"references have shape {tuple(references.shape)}; expected {shape}")
        return references

    def score(self, image: Tensor, mask: Tensor, references: Tensor | None = None) -> Tensor:
        """Logit (B,) of the expected Dice of one mask (B, 1, H, W)."""
        return self._judge(image, mask, mask, self._known(image, references))[:, 1]


def reference_channels(channels: int) -> int:
    """Number of channels that `reference_crops` gives for images of 1 or 3 channels."""
    return 2 * channels + 5


def split_references(references: Tensor) -> tuple[Tensor, ...]:
    """Views of references (B, 2 C + 5, H, W) of `reference_crops`.

    Image (C channels) of the newest prompted slice, its mask before and after the prompt (1 each), image (C) and mask
    of the nearest other prompted slice, and nearness of both (2).
    """
    channels = (references.shape[1] - 5) // 2
    return references.split([channels, 1, 1, channels, 1, 2], 1)


def comparison_cues(image: Tensor, previous: Tensor, current: Tensor, references: Tensor) -> Tensor:
    """Compare two masks (B, 1, H, W) of slices (B, C, H, W) with their prompted slices (`reference_crops`).

    Sums over the pixels of the window: a few thousand pairs teach a small network how to weigh them. (B, `CUES`)
    float32 of the order of 1: agreement of the change with the newest correction (5), overlaps of the masks with the
    prompted ones (9), areas (7), nearness of both prompted slices (2), brightness of the masks beside that of the
    prompted ones (6), and what is empty (4).
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
