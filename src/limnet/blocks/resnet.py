"""ResNet building blocks and a ResNet trunk (He et al., "Deep Residual Learning for Image Recognition", 2016).

Parameter names follow the common public layout (`conv1`, `bn1`, ..., `downsample.0/.1`), so that published weights fit.
The bottleneck is the v1.5 variant: the stride sits on the 3x3 convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limnet.errors import InputError

LAYERS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection; output has `planes` channels, the first and the skip the stride."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _skip(inplanes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inplanes, H, W) to (B, planes, H/stride, W/stride)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 - 3x3 (strided) - 1x1 convolutions with a skip connection; output has `4 * planes` channels."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = _skip(inplanes, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inplanes, H, W) to (B, 4 * planes, H/stride, W/stride)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


def _skip(inplanes: int, outplanes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inplanes == outplanes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, outplanes, 1, stride, bias=False), nn.BatchNorm2d(outplanes))


def make_stage(
    block: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, blocks: int, stride: int = 1
) -> nn.Sequential:
    """One ResNet stage: `blocks` blocks, the first of which carries the stride."""
    first = block(inplanes, planes, stride)
    return nn.Sequential(first, *(block(planes * block.expansion, planes) for _ in range(blocks - 1)))


class ResNetTrunk(nn.Module):
    """ResNet without the classifier: 7x7/2 stem, 3x3/2 max pooling and four stages, by He initialisation.

    Depth 18 and 34 have basic blocks, 50 bottlenecks; InputError for others. `channels` are those of each stage's
    output.
    """

    def __init__(self, depth: int = 18, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in LAYERS:
            raise InputError(f"depth {depth!r} is not known; choose one of {sorted(LAYERS)}")
        block = Bottleneck if depth == 50 else BasicBlock
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.channels: list[int] = []
        inplanes = 64
        for i, blocks in enumerate(LAYERS[depth]):
            planes = 64 * 2**i
            self.add_module(f"layer{i + 1}", make_stage(block, inplanes, planes, blocks, 1 if i == 0 else 2))
            inplanes = planes * block.expansion
            self.channels.append(inplanes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, in_channels, H, W) to the outputs of the stages, strides 4, 8, 16, 32."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        maps = []
        for i in range(len(self.channels)):
            x = self.get_submodule(f"layer{i + 1}")(x)
            maps.append(x)
        return maps
