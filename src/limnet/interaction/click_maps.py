"""Clicks as points and as disks, by the rule of the interaction networks.

A click is drawn as a disk in pixels of the network input: 1 where the squared distance to the click is at most
radius squared, else 0. The fraction of a coordinate is kept, points may lie outside the image, and overlapping disks
are united.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limnet.errors import InputError

UNUSED = (-1.0, -1.0, -1.0)


def pack_points(
    positive: Sequence[tuple[float, float, float]], negative: Sequence[tuple[float, float, float]]
) -> list[tuple[float, float, float]]:
    """One list of points for the network from the clicks of both kinds.

    Args:
        positive: (row, column, order) of the clicks on the object.
        negative: the same for clicks on the background.

    Returns:
        2N points, N = the larger number of clicks, at least 1: the positive ones, then the negative ones, each half
        filled up with (-1, -1, -1).
    """
    half = max(len(positive), len(negative), 1)
    return [
        *positive,
        *[UNUSED] * (half - len(positive)),
        *negative,
        *[UNUSED] * (half - len(negative)),
    ]


def draw_disks(points: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    """Disks around points.

    Args:
        points: (B, 2N, 3) rows of (row, column, order) in pixels, the first N positive, the last N negative; fractions
            count. A point whose larger coordinate is below 0 is unused; any other is drawn, also from outside.
        size: height and width in pixels.
        radius: disk radius in pixels, border included.

    Returns:
        (B, 2, H, W) of 0 and 1 in the type of `points` (float32 for integer points): positive, negative.

    Raises:
        InputError: the points do not have this shape.
    """
    if points.ndim != 3 or points.shape[1] % 2 or points.shape[2] < 2:
        raise InputError(
            f"points of shape {tuple(points.shape)}; expected (B, 2N, 3): N positive, then N negative rows of "
            "(row, column, order), unused rows filled with -1"
        )
    if not points.is_floating_point():
        points = points.float()
    batch, count = points.shape[0], points.shape[1] // 2
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)
    halves = points[..., :2].reshape(batch, 2, count, 2)
    used = halves.amax(dim=-1) >= 0
    disks = torch.zeros((batch, 2, *size), dtype=torch.bool, device=points.device)
    for index in range(count):  # one click at a time: memory does not grow with the number of clicks
        row, column = halves[:, :, index, 0, None], halves[:, :, index, 1, None]
        distance = (rows - row).square()[..., :, None] + (columns - column).square()[..., None, :]
        disks |= (distance <= radius**2) & used[:, :, index, None, None]
    return disks.to(points.dtype)


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
