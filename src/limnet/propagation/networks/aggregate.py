"""Soft aggregation of per-object probabilities, and padding to a stride."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-7


def aggregate(prob: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Turn independent object probabilities into one distribution over background and objects.

    The background is the product of (1 - p); everything is clamped to [1e-7, 1 - 1e-7], taken to logits and normalised
    by a softmax (Oh et al., STM, 2019, as used by XMem). Computed in float32 at least.

    Args:
        prob: Probabilities in [0, 1], objects along `dim`.
        dim: The object axis.

    Returns:
        (logits, probabilities), each one longer along `dim`, background first.
    """
    prob = prob.to(torch.promote_types(prob.dtype, torch.float32))
    background = torch.prod(1 - prob, dim, keepdim=True)
    everything = torch.cat([background, prob], dim).clamp(EPSILON, 1 - EPSILON)
    logits = torch.log(everything / (1 - everything))
    return logits, torch.softmax(logits, dim)


def padding(height: int, width: int, multiple: int = 16) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) that make both sizes divisible; the odd pixel goes right and to the bottom."""
    down, across = -height % multiple, -width % multiple
    return across // 2, across - across // 2, down // 2, down - down // 2


def pad(x: Tensor, multiple: int = 16) -> Tensor:
    """Zero-pad the last two axes (H, W) to a multiple, centred."""
    left, right, top, bottom = padding(x.shape[-2], x.shape[-1], multiple)
    return F.pad(x, (left, right, top, bottom)) if left or right or top or bottom else x


def unpad(x: Tensor, height: int, width: int, multiple: int = 16) -> Tensor:
    """Crop the last two axes back to (height, width), undoing `pad`."""
    left, _, top, _ = padding(height, width, multiple)
    return x[..., top : top + height, left : left + width]
