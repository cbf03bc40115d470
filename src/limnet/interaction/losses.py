"""Losses of the click-guided networks: normalised focal loss and the cross entropy of the auxiliary output.

Both work on logits and labels 1 (object), 0 (background) and -1 (ignored), return one number per sample, and are
computed in float32 at least.

Source: Sofiiuk et al., "AdaptIS: Adaptive Instance Selection Network", ICCV 2019 (normalised focal loss), in the form
of "Reviving Iterative Training with Mask Guidance for Interactive Segmentation", ICIP 2022. There the probability of
the true label is formed first, which in float32 rounds to 0 for confidently wrong pixels and spoils their gradient;
here its logarithm comes from the logit directly and stays right at any magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from limnet.errors import InputError

IGNORE = -1
_EPSILON = 1e-12


def normalized_focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Focal loss whose weights are rescaled per sample to sum to the number of counted pixels.

    With p the probability of the true label, a pixel costs -a * k * (1 - p)^gamma * log p, where a is `alpha` on the
    object and 1 - `alpha` on background, and k = counted pixels / sum of (1 - p)^gamma. No gradient flows through k.

    Args:
        logits: (B, 1, H, W).
        labels: (B, 1, H, W) of 1, 0 and -1 (ignored).
        alpha: weight of object pixels, in [0, 1].
        gamma: focusing exponent, 0 or at least 1.

    Returns:
        (B,): mean over the counted pixels of each sample, 0 where none counts.

    Raises:
        InputError: the shapes differ.
    """
    logits, counted, target = _prepare(logits, labels)
    signed = torch.where(target, logits, -logits)
    weight = torch.sigmoid(-signed).pow(gamma) * counted
    total = counted.sum(dim=(1, 2, 3), keepdim=True)
    factor = (total / (weight.sum(dim=(1, 2, 3), keepdim=True) + _EPSILON)).detach()
    balance = torch.where(target, alpha, 1 - alpha)
    loss = -balance * factor * weight * F.logsigmoid(signed)
    return loss.sum(dim=(1, 2, 3)) / total.flatten().clamp(min=1)


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy where ignored pixels cost nothing, averaged over all pixels, ignored ones included.

    Args:
        logits: (B, 1, H, W).
        labels: (B, 1, H, W) of 1, 0 and -1 (ignored).

    Returns:
        (B,).

    Raises:
        InputError: the shapes differ.
    """
    logits, counted, target = _prepare(logits, labels)
    loss = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return (loss * counted).mean(dim=(1, 2, 3))


def click_loss(outputs: Mapping[str, Tensor], labels: Tensor, auxiliary_weight: float = 0.4) -> Tensor:
    """Training loss of a click-guided network.

    Args:
        outputs: `instances` and, if the network has it, `instances_aux`: logits (B, 1, H, W).
        labels: (B, 1, H, W) of 1, 0 and -1 (ignored).
        auxiliary_weight: weight of the cross entropy on `instances_aux`.

    Returns:
        Scalar, mean over the batch.

    Raises:
        InputError: the shapes differ.
    """
    loss = normalized_focal_loss(outputs["instances"], labels)
    if "instances_aux" in outputs:
        loss = loss + auxiliary_weight * masked_cross_entropy(outputs["instances_aux"], labels)
    return loss.mean()


def _prepare(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in at least float32, 1 where a pixel counts, True where it is object."""
    if logits.ndim != 4 or logits.shape != labels.shape:
        raise InputError(
            f"logits of shape {tuple(logits.shape)}, labels of shape {tuple(labels.shape)}; both must be (B, 1, H, W)"
        )
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits, (labels != IGNORE).to(logits.dtype), labels > 0.5
