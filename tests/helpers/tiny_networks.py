"""Tiny networks with very few channels: seconds become milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from limnet.interaction.networks.tiny import TinyInteraction
from limnet.propagation.networks.tiny import TinyPropagation
from limnet.quality.networks.tiny import TinyQuality

ENCODER: dict[str, Any] = {"widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "embedding": 8}
MEMORY: dict[str, Any] = {"key_dim": 8, "value_dim": 16}


def scramble(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a random value, so that nothing is hidden behind a zero initialisation; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim < 2:
                value.normal_(0.2, 0.3, generator=generator)
            else:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    return network.eval()


class Part(nn.Module):
    """One part of a network as a module of its own, for `torch.export`; `call` gets the network and the inputs."""

    def __init__(self, network: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *parts: Any) -> Any:
        return self.call(self.network, *parts)


def small_interaction(image_channels: int = 1, **options: Any) -> TinyInteraction:
    network = TinyInteraction(image_channels, **{**ENCODER, **options})
    scramble(network)
    return network


def small_propagation(image_channels: int = 1, **options: Any) -> TinyPropagation:
    network = TinyPropagation(image_channels, **{**ENCODER, **MEMORY, **options})
    scramble(network)
    return network


def small_quality(image_channels: int = 1, references: bool = False) -> TinyQuality:
    network = TinyQuality(image_channels, widths=(16, 16, 16), references=references)
    scramble(network)
    return network


def disk(height: int, width: int, centre: tuple[float, float], radius: float) -> torch.Tensor:
    """(1, 1, H, W) float mask."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2).float()[None, None]
