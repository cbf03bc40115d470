"""Initial masks, which a training sample's first click meets: none, a damaged or poor one, a loose box, a wrong object.

All functions treat a whole batch at once on the tensors' own device; what is random comes from a generator of the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.simulation.corruptions import corrupt_batch

KINDS = (0.25, 0.10, 0.15, 0.15)  # damaged, boxed, grown together with another object, poor
POOR = 0.65  # their sum: the share of samples that start from anything


def start_prompts(
    target: Tensor,
    generator: torch.Generator,
    corruption: float = 0.5,
    share: float = POOR,
    literal: bool = False,
    kinds: Sequence[float] = KINDS,
) -> Tensor:
    """Prompt maps before the first click: empty, a damaged or poor mask, a loose box, or a mask with another object.

    Args:
        target: bool (B, 1, H, W).
        corruption: share of the paper's six kinds among the damaged masks (drawn on the CPU one by one); the rest is
            `damage`.
        share: of samples that start from anything.
        kinds: odds of damaged masks, boxes, masks with another object, and poor masks.

    Returns:
        float (B, 4, H, W): previous, positive, negative, bounds.
    """
    batch, _, height, width = target.shape
    damaging, boxing, growing, last = (sum(kinds[: i + 1]) for i in range(4))
    draw = torch.rand(batch, generator=generator) * (last / max(share, 1e-9))
    damaged = damage(target, generator)
    paper = torch.nonzero(draw < damaging * corruption)[:, 0].to(target.device)
    if len(paper):
        damaged[paper] = corrupt_batch(target[paper], generator, literal=literal)
    here = draw.view(-1, 1, 1, 1).to(target.device)
    foreign = target.roll(-1, 0)
    slack, away = torch.rand((batch, 4), generator=generator), torch.rand((batch, 2), generator=generator) - 0.5
    previous = torch.where(here < damaging, damaged, torch.zeros_like(damaged))
    grown = target | shifted(foreign, away * 0.6 * height)  # a negative click must cut off that part only
    previous = torch.where((here >= boxing) & (here < growing), grown.float(), previous)
    poor = poor_masks(target, foreign, generator)
    previous = torch.where((here >= growing) & (here < last), poor, previous)
    boxes = loose_boxes(target, slack) & (here >= damaging) & (here < boxing)
    clicks = previous.new_zeros((batch, 2, height, width))
    return torch.cat([previous, clicks, boxes.float()], 1)


def loose_boxes(target: Tensor, slack: Tensor) -> Tensor:
    """Boxes around objects bool (B, 1, H, W), up to 12 % too large on each side; empty where the object is.

    `slack` (B, 4) in [0, 1] is the share of those 12 % above, below, left and right.
    """
    slack = (slack * 0.12).to(target.device)
    sides = []
    for axis, (before, after) in ((2, (0, 1)), (3, (2, 3))):
        lines = target.any(5 - axis, keepdim=True)  # rows (B, 1, H, 1), then columns (B, 1, 1, W)
        place = torch.arange(target.shape[axis], device=target.device).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        low = torch.where(lines, place, target.shape[axis]).amin(axis, keepdim=True)
        high = torch.where(lines, place, -1).amax(axis, keepdim=True)
        extent = high - low + 1
        early, late = (slack[:, i].view(-1, 1, 1, 1) * extent for i in (before, after))
        sides.append((place >= (low - early).trunc()) & (place < (high + 1 + late).trunc()))
    return sides[0] & sides[1] & target.flatten(1).any(1).view(-1, 1, 1, 1)


def poor_masks(target: Tensor, foreign: Tensor, generator: torch.Generator) -> Tensor:
    """What sweeps that went wrong leave of objects: one side, all of it shifted, or one side and another object.

    Objects and the masks of `foreign` ones are bool (B, 1, H, W), the outcome float.
    """
    batch, _, height, width = target.shape
    device = target.device
    kind, angle, share = torch.rand((3, batch, 1, 1, 1), generator=generator).to(device)
    own, other = torch.rand((2, batch, 2), generator=generator) - 0.5
    extent = target.float().sum((1, 2, 3)).sqrt().view(-1, 1)
    moved = shifted(target, own.to(device) * 1.2 * extent)
    angle = angle * 2 * math.pi
    rows = torch.arange(height, device=device).view(1, 1, -1, 1) * angle.sin()
    along = rows + torch.arange(width, device=device).view(1, 1, 1, -1) * angle.cos()
    ordered = torch.where(target, along, torch.inf).flatten(1).sort(1).values
    rank = (target.flatten(1).sum(1) - 1).clamp_min(0) * (0.05 + 0.6 * share.flatten())
    cut = ordered.gather(1, rank.long().view(-1, 1)).view(-1, 1, 1, 1)
    side = target & (along <= cut)
    both = side | shifted(foreign, other * 0.6 * height)
    return torch.where(kind < 0.25, moved, torch.where(kind < 0.65, side, both)).float()


def wrong_objects(target: Tensor, prompts: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """Targets (B, 1, H, W) of which some are emptied, their masks moved to the start mask in `prompts`, in place.

    Positive clicks that were drawn for them go.
    """
    chosen = (torch.rand(len(target), generator=generator) < chance).to(target.device)
    start_at(prompts, target.float(), chosen)
    prompts[chosen, 1] = 0.0
    return target & ~chosen.view(-1, 1, 1, 1)


def start_at(prompts: Tensor, start: Tensor, chosen: Tensor) -> None:
    """Let the chosen samples (B,) of `prompts` (B, 4, H, W) start from `start` (B, 1, H, W) and no box, in place."""
    chosen = chosen.view(-1, 1, 1, 1)
    prompts[:, 0:1] = torch.where(chosen, start, prompts[:, 0:1])
    prompts[:, 3:4] = torch.where(chosen, 0.0, prompts[:, 3:4])


def damage(target: Tensor, generator: torch.Generator) -> Tensor:
    """Quickly damaged masks for a batch: a smooth random field moves the border, cuts parts out and adds others."""
    batch, _, height, width = target.shape
    size = target.float().mean((1, 2, 3), keepdim=True).sqrt() * height
    blurred = functional.avg_pool2d(target.float(), 9, 1, 4)
    blurred = functional.avg_pool2d(blurred, 9, 1, 4)
    cells = int(torch.randint(4, 14, (1,), generator=generator))
    field = torch.randn((batch, 1, cells, cells), generator=generator).to(target.device)
    field = functional.interpolate(field, (height, width), mode="bicubic", align_corners=False)
    strength = torch.rand((batch, 1, 1, 1), generator=generator).to(target.device) * 0.7
    bias = (torch.rand((batch, 1, 1, 1), generator=generator).to(target.device) - 0.5) * 0.6
    reach = (size / 24).clamp(0.4, 1.5)
    return ((blurred - 0.5) / reach + field * strength + bias > 0).float()


def shifted(mask: Tensor, offsets: Tensor) -> Tensor:
    """Every mask (B, 1, H, W) rolled by its own offset, (B, 2) rows and columns; fractions are cut off."""
    height, width = mask.shape[-2:]
    offsets = offsets.to(mask.device).trunc().long()
    rows = (torch.arange(height, device=mask.device) - offsets[:, :1]) % height
    columns = (torch.arange(width, device=mask.device) - offsets[:, 1:]) % width
    number = torch.arange(len(mask), device=mask.device).view(-1, 1, 1)
    return mask[:, 0][number, rows[:, :, None], columns[:, None, :]][:, None]
