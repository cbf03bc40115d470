"""Draws for training on clips with several objects: which slices, which direction, which objects, which references."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SKIPS: tuple[tuple[float, int], ...] = ((0.0, 5), (0.1, 10), (0.3, 15), (0.8, 5))
"""Largest gap between the slices of a clip from a share of the training on (XMem's curriculum)."""


def largest_skip(progress: float, skips: Sequence[Sequence[float]] = SKIPS) -> int:
    """Largest gap at `progress` (0 to 1) of the training: the last entry (from, gap) that has begun."""
    return int([gap for begin, gap in skips if begin <= progress][-1])


def draw_frames(length: int, frames: int, skip: int, generator: torch.Generator) -> list[int]:
    """Positions of `frames` slices out of `length`: neighbours are 1 to `skip` apart, in either direction.

    Where the clip is too short for such gaps they shrink; a clip of `length` <= `frames` is taken whole.

    Returns:
        Strictly increasing or strictly decreasing positions.
    """
    if length <= frames:
        picks = list(range(length))
    else:
        most = min(skip, (length - 1) // (frames - 1))
        gaps = torch.randint(1, most + 1, (frames - 1,), generator=generator)
        start = int(torch.randint(0, length - int(gaps.sum()), (1,), generator=generator))
        picks = [start, *(start + gaps.cumsum(0)).tolist()]
    return picks[::-1] if float(torch.rand((), generator=generator)) < 0.5 else picks


def split_objects(labels: Tensor, most: int, generator: torch.Generator | None = None) -> Tensor:
    """Object masks of label clips: objects that the first slice shows, at most `most` of each clip.

    Args:
        labels: uint8 (B, T, H, W), 0 background; the number of an object is the same on all slices.
        most: objects per clip.
        generator: draws among more objects than that; None takes those with the lowest numbers.

    Returns:
        bool (B, T, O, H, W), O the largest number of objects of a clip, at least 1; the spare ones are empty.
    """
    chosen = []
    for clip in labels:
        ids = clip[0].unique()
        ids = ids[ids > 0]
        if generator is not None and len(ids) > 1:
            ids = ids[torch.randperm(len(ids), generator=generator).to(ids.device)]
        chosen.append(ids[:most])
    count = max(1, *(len(ids) for ids in chosen))
    masks = torch.zeros((*labels.shape[:2], count, *labels.shape[2:]), dtype=torch.bool, device=labels.device)
    for b, ids in enumerate(chosen):
        for o, number in enumerate(ids):
            masks[b, :, o] = labels[b] == number
    return masks


def draw_references(step: int, most: int, batch: int, generator: torch.Generator) -> Tensor:
    """Which of the slices 0 .. step-1 each clip of a batch reads: all while they are few, else the first and others.

    Returns:
        int64 (batch, n), n at most `most`; the first column is 0 unless all are read.
    """
    if step <= most:
        return torch.arange(step).expand(batch, -1)
    rows = [torch.randperm(step - 1, generator=generator)[: most - 1] + 1 for _ in range(batch)]
    return torch.cat([torch.zeros(batch, 1, dtype=torch.int64), torch.stack(rows)], 1)
