"""TinyQuality: which of two masks of a slice is better, and how good one is. Swapping the masks negates the answer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.prompt_unet import PlainBlock
from limnet.blocks.tiny import pad_to_stride, weight_dtype


class TinyQuality(nn.Module):
    """One scorer looks at a mask beside its rival; the difference of both scores is the logit of equation (2).

    Args:
        image_channels: 1 for grey slices, 3 for RGB.
        widths: channels at strides 4, 8, 16.

    There is no batch normalisation: the same layers see pairs of masks and single masks, whose statistics differ.

    Attributes:
        config: the arguments as plain JSON types.
    """

    def __init__(self, image_channels: int = 1, widths: tuple[int, ...] = (48, 96, 128)):
        super().__init__()
        self.config: dict[str, Any] = {"image_channels": image_channels, "widths": list(widths)}
        self.image_channels = image_channels
        a, b, c = widths
        layers: list[nn.Module] = [nn.Conv2d(16 * (image_channels + 3), a, 3, padding=1), nn.ReLU(), PlainBlock(a)]
        for before, after, depth in ((a, b, 1), (b, c, 2)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU(), *(PlainBlock(after) for _ in range(depth))]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * c, 64), nn.ReLU(), nn.Linear(64, 2))

    def _judge(self, image: Tensor, mask: Tensor, rival: Tensor) -> Tensor:
        """(B, 2): score against the rival, and logit of the mask's own quality."""
        stacked = torch.cat([image * 2 - 1, mask * 2 - 1, rival * 2 - 1, mask - rival], 1)
        stacked = pad_to_stride(stacked.to(weight_dtype(self)), 16)
        x = self.body(functional.pixel_unshuffle(stacked, 4)).float()
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).to(weight_dtype(self))).float()

    def forward(self, image: Tensor, previous: Tensor, current: Tensor) -> Tensor:
        """Logit that the previous mask is the better one.

        Args:
            image: (B, C, H, W) in [0, 1].
            previous: (B, 1, H, W) mask or probability of the round before.
            current: (B, 1, H, W) of this round.

        Returns:
            (B,) float32; forward(image, a, b) = -forward(image, b, a).
        """
        return self._judge(image, previous, current)[:, 0] - self._judge(image, current, previous)[:, 0]

    def score(self, image: Tensor, mask: Tensor) -> Tensor:
        """Logit (B,) of the expected Dice of one mask (B, 1, H, W)."""
        return self._judge(image, mask, mask)[:, 1]
