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
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - decay)
            else:
                mean.copy_(value)
