"""Random clicks on and around an object before the first prediction, as RITM's training draws them."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from limnet.interaction.click_maps import add_disks

CHANCE = 0.8  # of every further click, relative to the one before
ERODED = 0.9  # share of samples whose positive clicks keep three pixels off the border
BORDER = 0.5  # share of negative clicks that lie in the band around the object
BAND = 0.1  # width of that band, in square roots of the object's area


def scatter_clicks(
    positive: Tensor,
    negative: Tensor,
    target: Tensor,
    generator: torch.Generator,
    radius: float,
    most: int = 24,
) -> None:
    """Draw 1 to `most` positive and 0 to `most` negative clicks into the maps, in place; their numbers fall off by 0.8.

    Positive clicks lie anywhere in the object, mostly three pixels from its border. Half of the negative ones lie in a
    band around it, half anywhere in the background. Empty objects get no positive click, full slices no negative one.

    Args:
        positive: float (B, 1, H, W).
        negative: float (B, 1, H, W).
        target: bool (B, 1, H, W).
        generator: source of randomness, on the CPU.
        radius: of the disks.
        most: clicks of one kind.
    """
    chances = CHANCE ** torch.arange(most + 1, dtype=torch.float32)
    for i, mask in enumerate(target[:, 0]):
        count = 1 + int(torch.multinomial(chances[:most], 1, generator=generator))
        region = mask
        if float(torch.rand((), generator=generator)) < ERODED:
            inner = -functional.max_pool2d(-mask[None].float(), 7, 1, 3)[0] > 0
            region = inner if int(inner.sum()) > 10 else mask
        _draw(positive, i, region, count, generator, radius)
        count = int(torch.multinomial(chances, 1, generator=generator))
        near = int((torch.rand(count, generator=generator) < BORDER).sum())
        reach = max(1, round(BAND * float(mask.sum()) ** 0.5))
        band = (functional.max_pool2d(mask[None].float(), 2 * reach + 1, 1, reach)[0] > 0) & ~mask
        near = near if bool(band.any()) else 0
        _draw(negative, i, band, near, generator, radius)
        _draw(negative, i, ~mask, count - near, generator, radius)


def _draw(disks: Tensor, sample: int, region: Tensor, count: int, generator: torch.Generator, radius: float) -> None:
    where = torch.nonzero(region)
    if not count or not len(where):
        return
    points = where[torch.randint(0, len(where), (count,), generator=generator).to(where.device)]
    row = disks[sample : sample + 1]
    for point in points:
        add_disks(row, row.new_zeros(row.shape), point[None], point.new_ones(1), radius)
