"""Mask losses shared by interaction and propagation."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from limnet.interaction.losses import normalized_focal_loss


def soft_dice(predicted: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice of each sample; both empty counts as 1.

    Args:
        predicted: (B, ...) probabilities or bool.
        target: (B, ...) of the same shape.
        smooth: added to numerator and denominator.

    Returns:
        (B,) in [0, 1].
    """
    predicted, target = predicted.float().flatten(1), target.float().flatten(1)
    overlap = (predicted * target).sum(1)
    return (2 * overlap + smooth) / (predicted.sum(1) + target.sum(1) + smooth)


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Normalised focal loss of each sample (RITM): focal weights rescaled to a mean of one, the factor detached.

    Args:
        logits: (B, ...) float.
        target: (B, ...) bool or 0/1.
        alpha: weight of the positive class, 1 - alpha of the negative one.
        gamma: focusing exponent.

    Returns:
        (B,).
    """
    return normalized_focal_loss(logits.flatten(1)[:, None, None], target.flatten(1)[:, None, None], alpha, gamma)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Batch mean of normalised focal loss plus soft Dice loss plus a little cross-entropy, for (B, 1, H, W) each."""
    dice = 1 - soft_dice(logits.float().sigmoid(), target, smooth=8.0)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), target.float())
    return (focal_loss(logits, target) + dice).mean() + 0.5 * entropy
