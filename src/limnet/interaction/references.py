"""What a prompted slice tells about another one: the mask the user made there, and what looks like it here.

A sweep hands on its own mistakes; the slice next to it that the user has corrected does not make them. So a click on a
slice that a sweep got wrong is answered by looking at that slice, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import product, similarity

MAPS = 4
"""Full-resolution maps of `ReferenceMaps`: mask, difference of the images, differences to object and surroundings."""
SIMILARITIES = 4
"""Stride-8 maps: likeness to object and surroundings, mask matched nearby and matched anywhere."""

_AROUND = 4  # cells of stride 8 around the object that count as its surroundings
_STRIDE = 8


class ReferenceMaps(nn.Module):
    """Compares a slice with a prompted slice seen through the same window; no prompted slice gives zeros.

    Matching follows space-time memory networks (Oh et al., ICCV 2019): every place here takes the mask of the places
    there that look alike, once from all of the slice and once from near by.

    Args:
        sharpness: factor on cosine similarities before the softmax, at the start of a training.
        nearby: standard deviation of "near by" as a share of the window's side, at the start of a training.
    """

    def __init__(self, sharpness: float = 16.0, nearby: float = 0.12) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor([float(sharpness)]))
        self.nearby = nn.Parameter(torch.tensor([float(nearby)]))

    def forward(
        self, image: Tensor, embedding: Tensor, there: Tensor, known: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps of both resolutions.

        Args:
            image: (B, C, H, W) in [0, 1], H and W multiples of 8.
            embedding: (B, E, H/8, W/8) of unit length.
            there: (B, C, H, W), the prompted slice.
            known: (B, E, H/8, W/8), its embedding.
            mask: (B, 1, H, W) in [0, 1], its mask; empty where there is no prompted slice.

        Returns:
            float32 (B, MAPS, H, W) and (B, SIMILARITIES, H/8, W/8).
        """
        mask = mask.float()
        present = (mask.amax((1, 2, 3), keepdim=True) > 0).float()
        gray, other = image.float().mean(1, keepdim=True), there.float().mean(1, keepdim=True)
        coarse = functional.avg_pool2d(mask, _STRIDE)
        around = functional.max_pool2d(coarse, 2 * _AROUND + 1, 1, _AROUND) * (1 - coarse)
        wide = functional.interpolate(around, scale_factor=float(_STRIDE), mode="nearest")
        maps = torch.cat([mask, (gray - other) * 2, gray - _mean(other, mask), gray - _mean(other, wide)], 1)
        likeness = _prototypes(embedding, known, torch.cat([coarse, around], 1))
        found = self._match(embedding, known, coarse)
        return torch.cat([maps[:, :2], maps[:, 2:] * 4], 1) * present, torch.cat([likeness, found], 1) * present

    def _match(self, embedding: Tensor, known: Tensor, coarse: Tensor) -> Tensor:
        """(B, 2, h, w): the other slice's mask read from places that look alike, near by and anywhere."""
        height, width = embedding.shape[-2:]
        alike = product(embedding.flatten(2).transpose(1, 2), known.flatten(2)) * self.sharpness
        rows = torch.arange(height, device=embedding.device, dtype=torch.float32) / height
        columns = torch.arange(width, device=embedding.device, dtype=torch.float32) / width
        place = torch.cartesian_prod(rows, columns)
        apart = (place[:, None] - place[None]).square().sum(2)
        values = coarse.flatten(2).transpose(1, 2)
        near = (alike - apart / (2 * self.nearby.square())).softmax(2)
        read = torch.cat([product(near, values), product(alike.softmax(2), values)], 2)
        return read.transpose(1, 2).reshape(-1, 2, height, width)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean (B, 1, 1, 1) of (B, 1, H, W) under weights; 0 where they are."""
    return (values * weights).sum((2, 3), keepdim=True) / weights.sum((2, 3), keepdim=True).clamp_min(1e-6)


def _prototypes(embedding: Tensor, known: Tensor, weights: Tensor) -> Tensor:
    """Cosine similarity (B, K, h, w) of `embedding` to the means of `known` under K weight maps."""
    both = torch.cat([known, embedding], 3).float()
    return similarity(both, torch.cat([weights, torch.zeros_like(weights)], 3))[..., known.shape[3] :]
