"""Batch augmentation on tensors: one random affine map and one random grey-level change per clip."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor


def augment_clips(
    image: Tensor,
    mask: Tensor,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.8, 1.3),
    share: tuple[int, int] = (0, 1),
) -> tuple[Tensor, Tensor]:
    """Rotate, flip, scale, shift and shear; then contrast, gamma, inversion and noise.

    Image (B, T, H, W), 0..255, and mask, uint8 or bool, become a float image in [0, 1] and a bool mask; `scale` is the
    range of the zoom factor. Several processes with equal generators change their samples as one process would that had
    all of them: everything is drawn for the whole batch, of which process r of n (`share`) has the samples r, r + n, r
    + 2n and so on.
    """
    batch = image.shape[0]
    device = image.device
    rank, processes = share
    whole = batch * processes

    def uniform(low: float, high: float) -> Tensor:
        return (torch.rand(whole, generator=generator) * (high - low) + low)[rank::processes].to(device)

    turn = torch.randint(0, 4, (whole,), generator=generator)[rank::processes].to(device) * (math.pi / 2) + uniform(
        -0.5, 0.5
    )
    zoom = torch.exp(uniform(math.log(1 / scale[1]), math.log(1 / scale[0])))
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shear = uniform(-0.15, 0.15)
    cos, sin = torch.cos(turn), torch.sin(turn)
    matrix = torch.stack(
        [
            torch.stack([flip * cos * zoom, (-sin + shear) * zoom, uniform(-0.1, 0.1)], -1),
            torch.stack([flip * sin * zoom, (cos + shear) * zoom, uniform(-0.1, 0.1)], -1),
        ],
        1,
    )
    grid = functional.affine_grid(matrix, [batch, 1, *image.shape[-2:]], align_corners=False)
    pixels = functional.grid_sample(
        image.float() / 255, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    inside = (
        functional.grid_sample(mask.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False) > 0.5
    )
    shape = (batch, 1, 1, 1)
    gamma = torch.exp(uniform(-0.4, 0.4)).view(shape)
    gain, offset = uniform(0.75, 1.2).view(shape), uniform(-0.1, 0.15).view(shape)
    pixels = pixels.clamp(1e-4, 1) ** gamma * gain + offset
    pixels = torch.where((uniform(0, 1) < 0.15).view(shape), 1 - pixels, pixels)
    source = generator  # draws on the images' own device: from the CPU noise would take as long as a training step
    if device.type != "cpu":
        source = torch.Generator(device).manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
    noise = torch.randn((whole, *pixels.shape[1:]), generator=source, device=device)[rank::processes]
    strength = uniform(0, 0.06).view(shape) * (uniform(0, 1) < 0.5).view(shape)
    return (pixels + noise * strength).clamp(0, 1), inside
