"""Cues for choosing between two masks of a slice: how each compares with what the user said on prompted slices.

The two masks alone do not tell which object was meant. What the newest prompt changed tells what was wrong: a round
that changes this slice in the same way, or makes it more like a prompted slice, is more often the better one. The cues
are sums over the pixels of the window, so that a few thousand pairs teach a small network how to weigh them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limnet.quality.crops import split_references

CUES = 33
_FEW = 8.0  # pixels added to areas before they are compared


def comparison_cues(image: Tensor, previous: Tensor, current: Tensor, references: Tensor) -> Tensor:
    """Compare two masks of slices with their prompted slices.

    Args:
        image: (B, C, H, W) in [0, 1].
        previous: (B, 1, H, W) mask of the round before, 0 or 1.
        current: (B, 1, H, W) mask of this round.
        references: (B, 2 C + 5, H, W) of `limnet.quality.crops.reference_crops`.

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
