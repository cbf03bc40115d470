"""Fits grey slices and the four prompt maps to what an interaction network takes."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from limnet.interaction.guidance import CHANNELS


class ClickNetwork(Protocol):
    """An interaction network, see docs/adding-a-network.md."""

    image_channels: int
    prompt_channels: tuple[str, ...]
    click_radius: float

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image half."""

    def decode(self, features: tuple[Tensor, ...], prompts: Tensor) -> dict[str, Tensor]:
        """Prompt half."""


def fit_image(image: Tensor, network: Any) -> Tensor:
    """Grey (B, 1, H, W) repeated over the network's image channels; other images as they are."""
    if image.shape[1] == 1 and network.image_channels > 1:
        return image.expand(-1, network.image_channels, -1, -1)
    return image


def fit_prompts(prompts: Tensor, network: Any) -> Tensor:
    """The maps previous, positive, negative, bounds (B, 4, H, W) in the network's order, without those it lacks."""
    wanted = tuple(network.prompt_channels)
    if wanted == CHANNELS:
        return prompts
    return prompts[:, [CHANNELS.index(name) for name in wanted]]
