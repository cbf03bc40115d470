"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import nn


def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `network`, in place; faster over the first steps. Counters are copied.

    Args:
        average: module with the same state_dict keys.
        network: module being trained.
        decay: share of the old average that stays, in [0, 1).
        step: steps done so far.
    """
    decay = min(decay, (1 + step) / (10 + step))
    means, values = ([*m.parameters(), *m.buffers()] for m in (average, network))
    pairs = [(a, b.to(a.dtype)) for a, b in zip(means, values, strict=True) if a.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)
        for mean, value in zip(means, values, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)
