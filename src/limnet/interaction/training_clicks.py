"""Clicks for training, drawn for a whole batch at once on the tensors' own device.

The distance to the error's border is counted in erosion steps (chessboard distance), which is cheap in batches; the
exact, spacing-aware robot user of `limnet.simulation.clicks` is for validation and benchmarks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor


def erosion_depth(mask: Tensor, limit: int = 24) -> Tensor:
    """Number of 3x3 erosions each pixel survives, 0 outside.

    Args:
        mask: float (B, 1, H, W), 0 or 1.
        limit: largest depth counted.

    Returns:
        float (B, 1, H, W).
    """
    if mask.device.type != "cpu":
        return _pooled_depth(mask, limit)
    depth = torch.zeros_like(mask)
    left = mask > 0
    for _ in range(limit):
        if not bool(left.any()):
            break
        depth += left
        around = functional.pad(left, (1, 1, 1, 1))
        across = around[..., :-2] & around[..., 1:-1] & around[..., 2:]
        left = across[..., :-2, :] & across[..., 1:-1, :] & across[..., 2:, :]
    return depth


def _pooled_depth(mask: Tensor, limit: int) -> Tensor:
    """`erosion_depth` for accelerators: few operations, and no question about values that would hold up the queue."""
    outside = functional.pad((mask <= 0).half(), (1, 1, 1, 1), value=1.0)
    depth = torch.full_like(mask, limit)
    for _ in range(limit):
        depth -= outside[..., 1:-1, 1:-1]
        outside = functional.pad(functional.max_pool2d(outside, 3, 1), (1, 1, 1, 1), value=1.0)
    return depth


def draw_clicks(
    target: Tensor, predicted: Tensor, generator: torch.Generator, spread: float = 0.5
) -> tuple[Tensor, Tensor]:
    """One click per sample in the deeper of its two kinds of error, off-centre.

    Args:
        target: bool (B, 1, H, W).
        predicted: bool (B, 1, H, W).
        generator: source of randomness.
        spread: a pixel is eligible when its depth exceeds this share of the largest depth.

    Returns:
        points int64 (B, 2) as (row, column), and kind int64 (B,): 1 positive, 0 negative, -1 no error and no click.
    """
    missed = (target & ~predicted).float()
    extra = (predicted & ~target).float()
    halves = functional.avg_pool2d(torch.cat([missed, extra], 0), 2, ceil_mode=True)
    rough = erosion_depth((halves > 0.4).float())
    exact = torch.cat([missed, extra], 0)
    depth = functional.interpolate(rough, scale_factor=2, mode="nearest")[..., : exact.shape[-2], : exact.shape[-1]]
    depth = (depth + 0.5) * exact
    batch = target.shape[0]
    missed_depth, extra_depth = depth[:batch].flatten(1), depth[batch:].flatten(1)
    positive = missed_depth.amax(1) > extra_depth.amax(1)
    chosen = torch.where(positive[:, None], missed_depth, extra_depth)
    deepest = chosen.amax(1, keepdim=True)
    weights = (chosen > spread * deepest).float() * (chosen > 0)
    empty = deepest[:, 0] <= 0
    weights = torch.where(empty[:, None], 1.0, weights)
    reached = weights.cumsum(1)
    draw = torch.rand((batch, 1), generator=generator, device=generator.device).to(reached.device)
    total = reached[:, -1:]
    index = torch.searchsorted(reached, torch.minimum(draw * total, total - 0.5), right=True)[:, 0]
    width = target.shape[-1]
    kind = torch.where(empty, torch.full_like(index, -1), positive.long())
    return torch.stack([index // width, index % width], 1), kind


def add_disks(positive: Tensor, negative: Tensor, points: Tensor, kind: Tensor, radius: float) -> None:
    """Draw clicks as disks into the maps, in place.

    Args:
        positive, negative: float (B, 1, H, W).
        points: (B, 2) rows and columns.
        kind: (B,) 1 positive, 0 negative, -1 none.
        radius: in pixels; a pixel belongs to the disk when its squared distance is at most radius squared.
    """
    height, width = positive.shape[-2:]
    rows = torch.arange(height, device=positive.device)[None, :, None] - points[:, 0, None, None]
    columns = torch.arange(width, device=positive.device)[None, None, :] - points[:, 1, None, None]
    disk = (rows**2 + columns**2 <= radius**2)[:, None]
    positive[disk & (kind == 1)[:, None, None, None]] = 1.0
    negative[disk & (kind == 0)[:, None, None, None]] = 1.0
