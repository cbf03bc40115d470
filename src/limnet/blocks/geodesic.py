"""Geodesic distance on batches of images: how much gray value changes on the way from the clicks to every pixel.

Paths along a row or a column are sums, so a whole line is swept at once: with C the cost from the line's start, the
distance is C plus the running minimum of (distance - C). Sweeps in the four directions are repeated; each repetition
allows two more turns (A. Criminisi, T. Sharp, A. Blake, "GeoS: geodesic image segmentation", ECCV 2008, do alike).
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

FAR = 4.0  # distance where there is no seed at all, and the largest one given back
STEP = 0.004  # cost of one step in even tissue, in units of the intensity range
_REPEATS = 4


def geodesic_distance(image: Tensor, seeds: Tensor, repeats: int = _REPEATS) -> Tensor:
    """Cost of the cheapest path of horizontal and vertical steps from the seeds, at half of the resolution.

    A step costs the difference of gray values and `STEP`. The image is averaged over 2x2 pixels and smoothed first,
    as noise adds up along a path.

    Args:
        image: (B, C, H, W) in [0, 1], H and W even.
        seeds: (B, K, H, W), seeds where above 0.
        repeats: rounds of four sweeps.

    Returns:
        (B, K, H / 2, W / 2) float32 in [0, 4]; 4 everywhere for a map without seeds.
    """
    gray = functional.avg_pool2d(image.float().mean(1, keepdim=True), 2)
    gray = functional.avg_pool2d(functional.pad(gray, (1, 1, 1, 1), mode="replicate"), 3, 1)
    along = [_running_cost(gray), _running_cost(gray.transpose(2, 3))]
    distance = (1 - (functional.max_pool2d(seeds.float(), 2) > 0).float()) * FAR
    for _ in range(repeats):
        for cost in along:
            distance = _sweep(distance, cost)
            distance = _sweep(distance.flip(3), -cost.flip(3)).flip(3).transpose(2, 3)
    return distance.clamp(0, FAR).contiguous()


def _running_cost(gray: Tensor) -> Tensor:
    """Cost from the first pixel of each row to every pixel of it, (B, 1, h, w)."""
    steps = (gray[..., 1:] - gray[..., :-1]).abs() + STEP
    return functional.pad(steps.cumsum(3), (1, 0))


def _sweep(distance: Tensor, cost: Tensor) -> Tensor:
    """Distances after paths from left to right."""
    return cost + (distance - cost).cummin(3).values
