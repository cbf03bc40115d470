"""Parts of the tiny networks: few, wide convolutions at strides 4 to 32, made for CPUs.

The image half is `TinyEncoder`: run once per slice and window, then cached. The prompt half is `PromptUNet`:
full-resolution maps (previous mask, clicks, likelihoods ...) join the cached features, and logits come out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

STRIDE = 32
WIDTHS = (64, 128, 160, 192)


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and, unless `act` is off, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: bool = True):
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and an identity skip."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = ConvNorm(width, width)
        self.conv2 = ConvNorm(width, width, act=False)
        nn.init.zeros_(self.conv2[1].weight)  # type: ignore[arg-type]  # starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        return functional.relu(x + self.conv2(self.conv1(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 without normalisation (few samples share a prompt half), identity skip, zero start."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.reduce = nn.Conv2d(width, inner, 1)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, width, 1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        return x + self.expand(functional.relu(self.conv(functional.relu(self.reduce(functional.relu(x))))))


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize to the height and width of `like`."""
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class TinyEncoder(nn.Module):
    """Image half: slice (B, C, H, W) with H, W multiples of 32 to features at strides 4, 8, 16 and 32.

    Args:
        image_channels: 1 for grey slices, 3 for RGB.
        widths: channels at strides 4, 8, 16, 32.
        depths: residual blocks at each stride.
        embedding: channels of the stride-8 embedding in which prompts look for similar tissue.
    """

    def __init__(
        self,
        image_channels: int = 1,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = (2, 1, 2, 2),
        embedding: int = 32,
    ):
        super().__init__()
        self.stem = ConvNorm(16 * image_channels, widths[0])
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            down = [ConvNorm(widths[i - 1], width, stride=2)] if i else []
            self.stages.append(nn.Sequential(*down, *(ResidualBlock(width) for _ in range(depth))))
        self.lateral = nn.ModuleList(nn.Conv2d(widths[i + 1], widths[i], 1) for i in range(3))
        self.smooth = ConvNorm(widths[1], widths[1])
        self.embed = nn.Conv2d(widths[1], embedding, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image (B, C, H, W) in [0, 1] to (f4, f8, f16, f32, embedding at stride 8 of unit length)."""
        x = self.stem(functional.pixel_unshuffle((image - 0.5) * 2, 4).to(weight_dtype(self)))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        f4, f8, f16, f32 = maps
        f16 = f16 + upsample(self.lateral[2](f32), f16)
        f8 = self.smooth(f8 + upsample(self.lateral[1](f16), f8))
        f4 = f4 + upsample(self.lateral[0](f8), f4)
        return f4, f8, f16, f32, functional.normalize(self.embed(f8).float(), dim=1).to(f8.dtype)


def weight_dtype(module: nn.Module) -> torch.dtype:
    """Number format of a module's weights, which its inputs must have as well."""
    return next(module.parameters()).dtype


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product in float32, under autocast too."""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def similarity(embedding: Tensor, weights: Tensor) -> Tensor:
    """Cosine similarity of every position to the mean embedding under each weight map.

    Embedding (B, E, h, w) of unit length, non-negative weights (B, K, h, w) -> (B, K, h, w) in [-1, 1], float32; a map
    that is zero everywhere gives zeros.
    """
    flat = embedding.flatten(2)
    prototype = functional.normalize(product(weights.flatten(2), flat.transpose(1, 2)), dim=2)  # B, K, E
    return product(prototype, flat).reshape(*weights.shape[:2], *embedding.shape[-2:])


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
    """Prompt half: full-resolution maps go down and up a U-Net and meet cached image features; logits come out.

    Corrections need depth after the prompts have joined: with a thin prompt half the click network stopped improving at
    a 2D Dice of .74 after six clicks, whatever the training (docs/training-log.md).

    Args:
        maps: number of full-resolution input maps.
        similarities: number of stride-8 similarity maps.
        readout: channels of a stride-16 memory readout, 0 for none.
        widths: channels of the encoder at strides 4, 8, 16, 32.
    """

    def __init__(
        self,
        maps: int,
        similarities: int,
        readout: int = 0,
        widths: tuple[int, ...] = WIDTHS,
    ):
        super().__init__()
        c4, c8, c16, c32 = widths
        self.maps = nn.Conv2d(16 * maps, c4, 1)
        self.down8 = nn.Conv2d(c4, c8, 3, 2, 1)
        self.similar = nn.Conv2d(similarities, c8, 1)
        self.blocks8 = nn.Sequential(PlainBlock(c8))
        self.down16 = nn.Conv2d(c8, c16, 3, 2, 1)
        self.readout = nn.Conv2d(readout, c16, 1) if readout else None
        self.blocks16 = nn.Sequential(PlainBlock(c16))
        self.down32 = nn.Conv2d(c16, c32, 3, 2, 1)
        self.blocks32 = nn.Sequential(PlainBlock(c32), PlainBlock(c32))
        self.from32 = nn.Conv2d(c32, c16, 1)
        self.up16 = nn.Sequential(PlainBlock(c16))
        self.from16 = nn.Conv2d(c16, c8, 1)
        self.up8 = nn.Sequential(PlainBlock(c8))
        self.from8 = nn.Conv2d(c8, 4 * c4, 1)
        self.mix4 = nn.Conv2d(c4, 48, 3, padding=1)
        self.head = nn.Conv2d(48, 16, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -1.0)  # type: ignore[arg-type]

    def forward(
        self, features: tuple[Tensor, ...], maps: Tensor, similarities: Tensor, readout: Tensor | None = None
    ) -> Tensor:
        """Float32 logits (B, 1, H, W) of `TinyEncoder`'s f4 to f32, maps, similarities (stride 8) and readout (16)."""
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


def pad_to_stride(x: Tensor, stride: int = STRIDE) -> Tensor:
    """Pad bottom and right by repeating the edge until H and W are multiples of `stride`."""
    height, width = x.shape[-2:]
    below, right = -height % stride, -width % stride
    return functional.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
