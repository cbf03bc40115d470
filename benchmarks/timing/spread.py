"""Medians with their spread, and ratios of things that were measured in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from limnet.errors import InputError


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles.

    Args:
        values: at least one.
    """
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": float(middle), "low": float(low), "high": float(high)}


def latency(values: Sequence[float]) -> dict[str, float]:
    """Percentiles of single answers: p50, p95, and their number.

    Args:
        values: at least one.
    """
    half, most = np.percentile(values, (50, 95))
    return {"p50": float(half), "p95": float(most), "number": float(len(values))}


def ratio(values: Mapping[int, Sequence[float]], base: Mapping[int, Sequence[float]]) -> dict[str, float] | None:
    """How many times as long one thing takes as another, measured in turn.

    Samples of one lap lie close together in time, so they are divided by each other; what slows the machine for a while
    slows both and drops out.

    Args:
        values: lap -> samples.
        base: lap -> samples of what is compared with.

    Returns:
        Median and quartiles over the laps of the ratio of both medians, and "laps"; None if they share no lap.

    Raises:
        InputError: a sample of the base is not above 0.
    """
    shared = sorted(set(values) & set(base))
    if not shared:
        return None
    pairs = [(float(np.median(values[lap])), float(np.median(base[lap]))) for lap in shared]
    if any(not below > 0 or not math.isfinite(above) for above, below in pairs):
        raise InputError(f"times must be above 0 to be compared; got {pairs}")
    return {**spread([above / below for above, below in pairs]), "laps": float(len(shared))}
