"""Mask losses shared by interaction and propagation."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor


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
    logits, target = logits.float().flatten(1), target.float().flatten(1)
    log_right = functional.logsigmoid(torch.where(target > 0.5, logits, -logits))
    weight = (1 - log_right.exp()) ** gamma
    scale = weight.shape[1] / (weight.detach().sum(1) + 1e-12)
    side = torch.where(target > 0.5, alpha, 1 - alpha)
    return scale * (side * weight * -log_right).mean(1)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of normalised focal loss plus soft Dice loss plus a little cross-entropy, (B, 1, H, W) each."""
    dice = 1 - soft_dice(logits.float().sigmoid(), target, smooth=8.0)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), target.float())
    return (focal_loss(logits, target) + dice).mean() + 0.5 * entropy
