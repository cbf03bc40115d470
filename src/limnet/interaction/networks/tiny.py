"""TinyInteraction: the click network made for CPUs. The image half is cached; a click costs only the prompt half."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import WIDTHS, PromptUNet, TinyEncoder, pad_to_stride, similarity
from limnet.errors import InputError

REACHES = (0.15, 0.6)  # geodesic distances at which closeness has fallen to 1/e
FAR = 4.0  # geodesic distance where there is no seed at all, and the largest one given back
STEP = 0.004  # cost of one step in even tissue, in units of the intensity range


def intensity_difference(image: Tensor, weights: Tensor) -> Tensor:
    """4 times the difference of each pixel to the mean intensity under weights (B, 1, H, W); 0 for an empty map."""
    grey = image.float().mean(1, keepdim=True)
    weights = weights.float()
    mass = weights.sum((2, 3), keepdim=True)
    mean = (grey * weights).sum((2, 3), keepdim=True) / mass.clamp_min(1e-6)
    return torch.where(mass > 1e-6, (grey - mean) * 4, torch.zeros_like(grey))


def geodesic_distance(image: Tensor, seeds: Tensor, repeats: int = 4) -> Tensor:
    """Cost of the cheapest path of horizontal and vertical steps from the seeds, at half of the resolution.

    A step costs the difference of gray values and `STEP`. The image is averaged over 2x2 pixels and smoothed first, as
    noise adds up along a path. Paths along a row or a column are sums, so a whole line is swept at once: with C the
    cost from the line's start, the distance is C plus the running minimum of (distance - C). Sweeps in the four
    directions are repeated; each repetition allows two more turns. See A. Criminisi, T. Sharp, A. Blake, "GeoS:
    geodesic image segmentation", ECCV 2008.

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


def geodesic_closeness(image: Tensor, clicks: Tensor) -> Tensor:
    """How near every pixel is to clicks (B, K, H, W) along paths of even gray values, at two scales.

    (B, 2K, H, W) in [0, 1]: 1 at the clicks, fine scale of all K maps first, 0 for maps without clicks.
    """
    distance = geodesic_distance(image, clicks)
    distance = functional.interpolate(distance, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([(-distance / reach).exp() for reach in REACHES], 1) * clicks.amax((2, 3), keepdim=True).repeat(
        1, len(REACHES), 1, 1
    )


class TinyInteraction(nn.Module):
    """Clicks on one slice to that slice's mask.

    Args:
        image_channels: 1 for grey slices, 3 for RGB.
        widths: channels at strides 4, 8, 16, 32.
        depths: residual blocks of the image half at each stride.
        embedding: channels of the similarity embedding.
        click_radius: radius of a click's disk in network pixels.
        decoder: prompt half, always "unet" (`PromptUNet`); model folders name it.
        geodesic: give the prompt half the geodesic closeness of every pixel to the clicks.
        window_size: side in pixels of the windows it was trained on and is shown in use.

    Raises:
        InputError: unknown decoder.

    Attributes:
        prompt_channels: order of the prompt maps, each (H, W) in [0, 1].
    """

    prompt_channels = ("previous", "positive", "negative", "bounds")

    def __init__(
        self,
        image_channels: int = 1,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = (2, 1, 2, 2),
        embedding: int = 32,
        click_radius: float = 3.0,
        decoder: str = "unet",
        geodesic: bool = True,
        window_size: int = 160,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "image_channels": image_channels,
            "widths": list(widths),
            "depths": list(depths),
            "embedding": embedding,
            "click_radius": click_radius,
            "decoder": decoder,
            "geodesic": geodesic,
            "window_size": window_size,
        }
        self.window_size = window_size
        self.image_channels = image_channels
        self.click_radius = float(click_radius)
        self.encoder = TinyEncoder(image_channels, tuple(widths), tuple(depths), embedding)
        if decoder != "unet":
            raise InputError(f"decoder is {decoder!r}; 'unet' is the only one")
        self.geodesic = geodesic
        maps = 7 + 2 * len(REACHES) * geodesic
        self.decoder = PromptUNet(maps=maps, similarities=4, widths=tuple(widths))

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image half: (B, C, H, W) in [0, 1], H and W at least 32, to (padded image, f4, f8, f16, f32, embedding)."""
        image = pad_to_stride(image)
        return (image, *self.encoder(image))

    def decode(
        self, features: tuple[Tensor, ...], prompts: Tensor, decoder: nn.Module | None = None
    ) -> dict[str, Tensor]:
        """Prompt half: {"instances": logits (B, 1, H, W)}.

        Args:
            features: result of `encode_image`.
            prompts: (B, 4, H, W) maps in [0, 1]: previous mask, positive, negative, bounds (inside of a box or lasso).
            decoder: Another one of the same shape in place of the network's own (`limnet.learning`).
        """
        height, width = prompts.shape[-2:]
        image, f4, f8, f16, f32, embedding = features
        prompts = functional.pad(prompts, (0, image.shape[-1] - width, 0, image.shape[-2] - height)).float()
        previous, positive, negative = prompts[:, 0:1], prompts[:, 1:2], prompts[:, 2:3]
        maps = torch.cat(
            [
                prompts,
                intensity_difference(image, positive),
                intensity_difference(image, negative),
                intensity_difference(image, previous),
            ],
            1,
        )
        if self.geodesic:
            maps = torch.cat([maps, geodesic_closeness(image, prompts[:, 1:3])], 1)
        coarse = functional.avg_pool2d(prompts, 8)
        weights = torch.cat([coarse[:, :3], functional.relu(coarse[:, 0:1] - coarse[:, 2:3] * 4)], 1)
        logits = (decoder or self.decoder)((f4, f8, f16, f32), maps, similarity(embedding, weights))
        return {"instances": logits[..., :height, :width]}

    def forward(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        """Both halves: image (B, C, H, W), prompts (B, 4, H, W) to {"instances": logits (B, 1, H, W)}."""
        return self.decode(self.encode_image(image), prompts)
