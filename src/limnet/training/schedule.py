"""Learning-rate schedule."""

from __future__ import annotations

import math
import time

import torch

from limnet.datasets.loading import process_place


def seconds_since(started: float) -> float:
    """Seconds since a `time.monotonic()`, on every process those of process 0: all of them must ask together.

    Clocks of several processes never agree; what is decided by one clock is the same for all.

    Args:
        started: of this process; that of process 0 counts.
    """
    passed = [time.monotonic() - started]
    if process_place()[1] > 1:
        torch.distributed.broadcast_object_list(passed, src=0)
    return passed[0]


def warmup_cosine(
    optimizer: torch.optim.Optimizer, warmup: int, total: int, minutes: float | None = None
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine down to 1 % at `total` steps.

    Args:
        optimizer: whose rates are scheduled.
        warmup: steps.
        total: steps.
        minutes: for a machine booked for so long: the cosine ends then, counted from the first step, if that comes
            before `total` steps; several processes go by the clock of the first. Such a training cannot be repeated
            exactly. None to count steps alone.
    """
    started: list[float] = []
    asked: dict[int, float] = {}  # the newest step and its seconds: every parameter group asks for the factor

    def factor(step: int) -> float:
        if step and not started:
            started.append(time.monotonic())
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(total - warmup, 1)
        if minutes is not None and started:
            if step not in asked:
                asked.clear()
                asked[step] = seconds_since(started[0])
            progress = max(progress, asked[step] / (60 * minutes))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
