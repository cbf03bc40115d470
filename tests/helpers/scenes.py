"""Small volumes of known shapes, and a click network that needs no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume


class GreyLevelNetwork(nn.Module):
    """Everything as grey as what lies under the clicks, else under the mask so far, else the brightest in the bounds.

    Records what it was called with.
    """

    prompt_channels = ("previous", "positive", "negative", "bounds")
    click_radius = 2.0

    def __init__(self, image_channels: int = 1) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.scale = nn.Parameter(torch.tensor(60.0))
        self.encoded: list[tuple[int, ...]] = []
        self.decoded: list[Tensor] = []

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        self.encoded.append(tuple(image.shape))
        return (image,)

    def decode(self, features: tuple[Tensor, ...], prompts: Tensor) -> dict[str, Tensor]:
        self.decoded.append(prompts.clone())
        grey = features[0].mean(1, keepdim=True)
        previous, positive, negative, bounds = (prompts[:, i : i + 1] for i in range(4))
        weights = positive if bool(positive.any()) else previous
        level = (grey * weights).sum() / weights.sum().clamp_min(1e-6)
        if not bool((weights > 0.5).any()):
            level = (grey * bounds).max()
        logits = (0.1 - (grey - level).abs()) * self.scale
        logits = torch.where(negative > 0, -5.0, logits)
        if bool(bounds.any()):
            logits = torch.where(bounds > 0, logits, -5.0)
        return {"instances": logits}


def disks_volume(
    shape: tuple[int, int, int] = (4, 120, 150),
    disks: Sequence[tuple[float, float, float]] = ((60, 70, 12),),
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
) -> tuple[Volume, np.ndarray]:
    """The same (row, column, radius mm) disks on every slice: volume (grey levels 100 and 150), mask (H, W)."""
    rows, columns = np.ogrid[: shape[1], : shape[2]]
    mask = np.zeros(shape[1:], bool)
    for row, column, radius in disks:
        mask |= ((rows - row) * spacing[1]) ** 2 + ((columns - column) * spacing[2]) ** 2 <= radius**2
    array = np.broadcast_to(np.where(mask, 150, 100), shape).astype(np.int16)
    return Volume.from_array(array, spacing=spacing), mask


def disks_view(*arguments: object, **options: object) -> tuple[SliceView, np.ndarray]:
    volume, mask = disks_volume(*arguments, **options)  # type: ignore[arg-type]
    return SliceView(volume, 0, (50, 200)), mask


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))
