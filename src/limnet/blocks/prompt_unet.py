"""PromptUNet: the prompt half of the tiny networks. Prompt maps go down and up a U-Net and meet cached image features.

Corrections need depth after the prompts have joined: with a thin prompt half the click network stopped improving at a
2D Dice of .74 after six clicks, whatever the training (docs/training-log.md).
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import WIDTHS, upsample


class PlainBlock(nn.Module):
    """Two 3x3 convolutions and an identity skip, without normalisation; starts as the identity.

    The prompt half sees the first click, later clicks and second looks in turn; batch statistics of one are wrong for
    the others (with batch normalisation a second click brought .06 instead of .09).
    """

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        return functional.relu(x + self.conv2(functional.relu(self.conv1(x))))


class PromptUNet(nn.Module):
    """Full-resolution maps and cached image features to logits.

    Args:
        maps: number of full-resolution input maps.
        similarities: number of stride-8 similarity maps.
        readout: channels of a stride-16 memory readout, 0 for none.
        widths: channels of the encoder at strides 4, 8, 16, 32.
        down: residual blocks on the way down at strides 8, 16 and 32.
        up: residual blocks on the way up at strides 16 and 8.
    """

    def __init__(
        self,
        maps: int,
        similarities: int,
        readout: int = 0,
        widths: tuple[int, ...] = WIDTHS,
        down: tuple[int, int, int] = (1, 1, 2),
        up: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        c4, c8, c16, c32 = widths
        self.maps = nn.Conv2d(16 * maps, c4, 1)
        self.down8 = nn.Conv2d(c4, c8, 3, 2, 1)
        self.similar = nn.Conv2d(similarities, c8, 1)
        self.blocks8 = nn.Sequential(*(PlainBlock(c8) for _ in range(down[0])))
        self.down16 = nn.Conv2d(c8, c16, 3, 2, 1)
        self.readout = nn.Conv2d(readout, c16, 1) if readout else None
        self.blocks16 = nn.Sequential(*(PlainBlock(c16) for _ in range(down[1])))
        self.down32 = nn.Conv2d(c16, c32, 3, 2, 1)
        self.blocks32 = nn.Sequential(*(PlainBlock(c32) for _ in range(down[2])))
        self.from32 = nn.Conv2d(c32, c16, 1)
        self.up16 = nn.Sequential(*(PlainBlock(c16) for _ in range(up[0])))
        self.from16 = nn.Conv2d(c16, c8, 1)
        self.up8 = nn.Sequential(*(PlainBlock(c8) for _ in range(up[1])))
        self.from8 = nn.Conv2d(c8, 4 * c4, 1)
        self.mix4 = nn.Conv2d(c4, 48, 3, padding=1)
        self.head = nn.Conv2d(48, 16, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -1.0)  # type: ignore[arg-type]

    def forward(
        self, features: tuple[Tensor, ...], maps: Tensor, similarities: Tensor, readout: Tensor | None = None
    ) -> Tensor:
        """Logits (B, 1, H, W) in float32.

        Args:
            features: f4, f8, f16, f32 of `TinyEncoder` (the embedding is not read here).
            maps: (B, maps, H, W).
            similarities: (B, similarities, H/8, W/8).
            readout: (B, readout, H/16, W/16) or None.
        """
        f4, f8, f16, f32 = features[:4]
        dtype = f4.dtype
        x4 = functional.relu(f4 + self.maps(functional.pixel_unshuffle(maps.to(dtype), 4)))
        x8 = self.blocks8(functional.relu(f8 + self.down8(x4) + self.similar(similarities.to(dtype))))
        x16 = f16 + self.down16(x8)
        if self.readout is not None and readout is not None:
            x16 = x16 + self.readout(readout.to(dtype))
        x16 = self.blocks16(functional.relu(x16))
        x32 = self.blocks32(functional.relu(f32 + self.down32(x16)))
        x16 = self.up16(functional.relu(x16 + upsample(self.from32(x32), x16)))
        x8 = self.up8(functional.relu(x8 + upsample(self.from16(x16), x8)))
        x4 = functional.relu(x4 + functional.pixel_shuffle(self.from8(x8), 2))
        return functional.pixel_shuffle(self.head(functional.relu(self.mix4(x4))), 4).float()
