"""Quality network of the paper: a ResNet that looks at a slice with the masks of two rounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limnet.blocks.resnet import ResNetTrunk
from limnet.errors import InputError


class ResNetQuality(nn.Module):
    """P(previous mask is the better one) of a slice, as a logit (section II-C of the paper).

    Image and both masks are joined as input channels; ResNet stages, global average, one linear layer.

    Args:
        depth: 18, 34 or 50.
        image_channels: Channels of the image, 1 (grey) or 3 (RGB).

    Raises:
        InputError: Unknown depth or number of channels.
    """

    def __init__(self, depth: int = 18, image_channels: int = 1) -> None:
        super().__init__()
        if image_channels not in (1, 3):
            raise InputError(f"image_channels is {image_channels!r}; choose 1 or 3")
        self.config: dict[str, Any] = {"depth": depth, "image_channels": image_channels}
        self.image_channels = image_channels
        self.trunk = ResNetTrunk(depth, image_channels + 2)
        self.head = nn.Linear(self.trunk.channels[-1], 1)

    def forward(self, image: Tensor, previous: Tensor, current: Tensor) -> Tensor:
        """Logits (B,) of P(previous is better) for two masks of the same slices.

        Args:
            image: (B, C, H, W) in [0, 1], H and W at least 32.
            previous: (B, 1, H, W) mask or probability of the round before.
            current: (B, 1, H, W) mask or probability of this round.

        Raises:
            InputError: Shapes do not fit.
        """
        expected = (image.shape[0], 1, *image.shape[2:])
        if image.ndim != 4 or image.shape[1] != self.image_channels or min(image.shape[2:]) < 32:
            raise InputError(
                f"image has shape {tuple(image.shape)}; "
                f"expected (B, {self.image_channels}, H, W) with H and W at least 32"
            )
        for name, mask in (("previous", previous), ("current", current)):
            if tuple(mask.shape) != expected:
                raise InputError(f"{name} has shape {tuple(mask.shape)}; expected {expected}, the image's own size")
        dtype = self.head.weight.dtype
        x = torch.cat([image.to(dtype), previous.to(dtype), current.to(dtype)], 1) * 2 - 1
        return self.head(self.trunk(x)[-1].mean((2, 3))).squeeze(1)
