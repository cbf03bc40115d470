"""Losses of the memory network on aggregated outputs: bootstrapped cross entropy and Dice, as XMem is trained."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.training.objective import soft_dice


def hardest_share(step: int, start: int, end: int, least: float) -> float:
    """Share of the pixels that count: 1 up to step `start`, falling linearly to `least` at `end`."""
    if step < start:
        return 1.0
    if step >= end:
        return least
    return 1.0 - (1.0 - least) * (step - start) / (end - start)


def bootstrapped_cross_entropy(logits: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
    """Cross entropy over the hardest pixels of each sample.

    Args:
        logits: (B, O + 1, H, W), background first.
        target: int64 (B, H, W), 0 background, o + 1 for object o.
        share: of the pixels, the ones with the largest loss, in (0, 1].

    Returns:
        Scalar, mean over the batch.
    """
    loss = functional.cross_entropy(logits.float(), target, reduction="none").flatten(1)
    if share < 1:
        loss = loss.topk(max(1, int(share * loss.shape[1])), dim=1, sorted=False).values
    return loss.mean()


def object_dice_loss(probability: Tensor, masks: Tensor, present: Tensor) -> Tensor:
    """1 - Dice (smoothed by 1) over the objects that are there: mean over each sample's objects, then over samples.

    Args:
        probability: (B, O, H, W) without background.
        masks: bool (B, O, H, W).
        present: bool (B, O).

    Returns:
        Scalar; samples without any object count 0.
    """
    dice = soft_dice(probability.flatten(0, 1), masks.flatten(0, 1)).unflatten(0, present.shape)
    weight = present.float()
    return (((1 - dice) * weight).sum(1) / weight.sum(1).clamp_min(1)).mean()


def object_numbers(masks: Tensor) -> Tensor:
    """bool (B, O, H, W) disjoint masks to int64 (B, H, W): 0 background, o + 1 for object o."""
    numbers = torch.arange(1, masks.shape[1] + 1, device=masks.device)[None, :, None, None]
    return (masks * numbers).amax(1)
