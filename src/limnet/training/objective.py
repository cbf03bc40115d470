"""Mask losses shared by interaction and propagation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as functional
from torch import Tensor

from limnet.errors import InputError
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


LOSS_WEIGHTS = (1.0, 1.0, 0.5)


def checked_weights(weights: Sequence[float]) -> list[float]:
    """The weights of `mask_loss` as plain floats.

    Raises:
        InputError: not three finite ones of at least 0, or all of them 0.
    """
    plain = [float(weight) for weight in weights]
    usable = len(plain) == len(LOSS_WEIGHTS) and all(math.isfinite(weight) and weight >= 0 for weight in plain)
    if not usable or not sum(plain):
        raise InputError(
            f"loss_weights are {plain}; give three of at least 0, finite, not all 0: focal loss, Dice, cross-entropy"
        )
    return plain


def mask_loss(logits: Tensor, target: Tensor, weights: Sequence[float] = LOSS_WEIGHTS) -> Tensor:
    """Batch mean of a sum of losses.

    Args:
        logits: (B, 1, H, W) float.
        target: (B, 1, H, W) bool or 0/1.
        weights: of the normalised focal loss, the soft Dice loss and the cross-entropy.

    Returns:
        () float.
    """
    focal, overlap, entropy = weights
    dice = 1 - soft_dice(logits.float().sigmoid(), target, smooth=8.0)
    surprise = functional.binary_cross_entropy_with_logits(logits.float(), target.float())
    return (focal * focal_loss(logits, target) + overlap * dice).mean() + entropy * surprise
