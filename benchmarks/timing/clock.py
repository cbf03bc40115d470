"""Seconds of a piece of work, on devices that work behind the caller's back too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one call, everything it started on the device included."""
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def finish(device: str) -> None:
    """Wait until the device has done its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def running(precision: str, device: str = "cpu") -> Iterator[None]:
    """Inference mode; "bf16" computes in bfloat16 where torch's autocast does."""
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        yield
