"""Learning-rate schedule."""

from __future__ import annotations

import math
import time

import torch


def warmup_cosine(
    optimizer: torch.optim.Optimizer, warmup: int, total: int, minutes: float | None = None
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine down to 1 % at `total` steps.

    Args:
        optimizer: whose rates are scheduled.
        warmup: steps.
        total: steps.
        minutes: for a machine booked for so long: the cosine ends then, counted from the first step, if that comes
            before `total` steps. Such a training cannot be repeated exactly. None to count steps alone.
    """
    started: list[float] = []

    def factor(step: int) -> float:
        if step and not started:
            started.append(time.monotonic())
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(total - warmup, 1)
        if minutes is not None and started:
            progress = max(progress, (time.monotonic() - started[0]) / (60 * minutes))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
