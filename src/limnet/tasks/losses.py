"""Losses of the click networks (focal, Dice, cross-entropy) and of XMem (bootstrapped cross entropy, Dice of objects).

The normalised focal loss and the cross entropy of the rough output work on logits and labels 1 (object), 0 (background)
and -1 (ignored), return one number per sample, and are computed in float32 at least.

Source: Sofiiuk et al., "AdaptIS: Adaptive Instance Selection Network", ICCV 2019 (normalised focal loss), in the form
of "Reviving Iterative Training with Mask Guidance for Interactive Segmentation", ICIP 2022. There the probability of
the true label is formed first, which in float32 rounds to 0 for confidently wrong pixels and spoils their gradient;
here its logarithm comes from the logit directly and stays right at any magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.errors import InputError

IGNORE = -1
LOSS_WEIGHTS = (1.0, 1.0, 0.5)
"""Of the normalised focal loss, the soft Dice loss and the cross-entropy."""
ROUGH = 0.4  # weight of the cross entropy of the rough output, as RITM has it
_EPSILON = 1e-12


def normalized_focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss (B,), weights rescaled per sample to sum to the number of counted pixels; 0 where none counts.

    With p the probability of the true label, a pixel costs -k / 2 * (1 - p)^2 * log p, where k = counted pixels / sum
    of (1 - p)^2. No gradient flows through k.
    Logits and labels (1, 0, and -1 for ignored) are (B, 1, H, W).
    """
    logits, counted, target = _prepare(logits, labels)
    signed = torch.where(target, logits, -logits)
    weight = torch.sigmoid(-signed).pow(2) * counted
    total = counted.sum(dim=(1, 2, 3), keepdim=True)
    factor = (total / (weight.sum(dim=(1, 2, 3), keepdim=True) + _EPSILON)).detach()
    loss = -0.5 * factor * weight * functional.logsigmoid(signed)
    return loss.sum(dim=(1, 2, 3)) / total.flatten().clamp(min=1)


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy (B,) where ignored pixels cost nothing, averaged over all pixels, ignored ones included.

    Logits and labels (1, 0, and -1 for ignored) are (B, 1, H, W).
    """
    logits, counted, target = _prepare(logits, labels)
    loss = functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return (loss * counted).mean(dim=(1, 2, 3))


def soft_dice(predicted: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice (B,), in [0, 1], of probabilities or masks (B, ...) and their targets; both empty counts as 1.

    `smooth` is added to numerator and denominator.
    """
    predicted, target = predicted.float().flatten(1), target.float().flatten(1)
    overlap = (predicted * target).sum(1)
    return (2 * overlap + smooth) / (predicted.sum(1) + target.sum(1) + smooth)


def checked_weights(weights: Sequence[float]) -> list[float]:
    """The weights of `mask_loss` as plain floats; InputError for others than three finite ones of at least 0."""
    plain = [float(weight) for weight in weights]
    usable = len(plain) == len(LOSS_WEIGHTS) and all(math.isfinite(weight) and weight >= 0 for weight in plain)
    if not usable or not sum(plain):
        raise InputError(
            f"loss_weights are {plain}; give three of at least 0, finite, not all 0: focal loss, Dice, cross-entropy"
        )
    return plain


def mask_loss(logits: Tensor, target: Tensor, weights: Sequence[float] = LOSS_WEIGHTS) -> Tensor:
    """Batch mean of the normalised focal loss, the soft Dice loss and the cross-entropy, with their weights.

    Logits (B, 1, H, W) float, target bool or 0/1.
    """
    focal, overlap, entropy = weights
    dice = 1 - soft_dice(logits.float().sigmoid(), target, smooth=8.0)
    surprise = functional.binary_cross_entropy_with_logits(logits.float(), target.float())
    return (focal * normalized_focal_loss(logits, target) + overlap * dice).mean() + entropy * surprise


def click_loss(outputs: Mapping[str, Tensor], target: Tensor, weights: Sequence[float] = LOSS_WEIGHTS) -> Tensor:
    """Training loss of a click network: `mask_loss`, and the cross entropy of a rough output that the network may have.

    `outputs` holds `instances` and perhaps `instances_aux`: logits (B, 1, H, W); the target is bool.
    """
    loss = mask_loss(outputs["instances"], target, weights)
    if "instances_aux" in outputs:
        loss = loss + ROUGH * masked_cross_entropy(outputs["instances_aux"], target).mean()
    return loss


def hardest_share(step: float, start: float, end: float, least: float) -> float:
    """Share of the pixels that count: 1 up to `start`, falling linearly to `least` at `end`."""
    if step < start:
        return 1.0
    if step >= end:
        return least
    return 1.0 - (1.0 - least) * (step - start) / (end - start)


def bootstrapped_cross_entropy(logits: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
    """Cross entropy over the hardest pixels of each sample: the `share` with the largest loss, in (0, 1].

    Logits (B, O + 1, H, W), background first; target int64 (B, H, W), 0 background, o + 1 for object o.
    """
    loss = functional.cross_entropy(logits.float(), target, reduction="none").flatten(1)
    if share < 1:
        loss = loss.topk(max(1, int(share * loss.shape[1])), dim=1, sorted=False).values
    return loss.mean()


def object_dice_loss(probability: Tensor, masks: Tensor, present: Tensor) -> Tensor:
    """1 - Dice (smoothed by 1) over the objects that are there: mean over each sample's objects, then over samples.

    Probabilities (B, O, H, W) without background, masks bool, present bool (B, O); samples without any object count 0.
    """
    dice = soft_dice(probability.flatten(0, 1), masks.flatten(0, 1)).unflatten(0, present.shape)
    weight = present.float()
    return (((1 - dice) * weight).sum(1) / weight.sum(1).clamp_min(1)).mean()


def object_numbers(masks: Tensor) -> Tensor:
    """bool (B, O, H, W) disjoint masks to int64 (B, H, W): 0 background, o + 1 for object o."""
    numbers = torch.arange(1, masks.shape[1] + 1, device=masks.device)[None, :, None, None]
    return (masks * numbers).amax(1)


def _prepare(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in at least float32, 1 where a pixel counts, True where it is object."""
    if logits.ndim != 4 or logits.shape != labels.shape:
        raise InputError(
            f"logits of shape {tuple(logits.shape)}, labels of shape {tuple(labels.shape)}; both must be (B, 1, H, W)"
        )
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits, (labels != IGNORE).to(logits.dtype), labels > 0.5
