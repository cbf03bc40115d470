"""Building blocks of the high-resolution backbone: residual blocks, exchange between resolutions, stages.

Module names follow the public HRNet checkpoints, so that their tensors load without renaming. All resizing is bilinear
with aligned corners and explicit sizes, so any input size works.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size` (H, W) with aligned corners."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias and "same" padding, batch norm and, unless told otherwise, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """1x1 - 3x3 - 1x1 residual block with `4 * channels` outputs."""

    expansion = 4

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = conv_bn(inputs, outputs, 1, relu=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, 4 * channels, h, w)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w), same shape out."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


def _exchange(channels: Sequence[int], target: int, source: int) -> nn.Module:
    """Layers that bring branch `source` to the channels (and, going down, to the size) of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:  # coarser: the resize to the finer grid follows in forward
        return conv_bn(channels[source], channels[target], 1, relu=False)
    steps = target - source
    return nn.Sequential(
        *(
            conv_bn(
                channels[source],
                channels[target] if step == steps - 1 else channels[source],
                3,
                stride=2,
                relu=step < steps - 1,
            )
            for step in range(steps)
        )
    )


class ExchangeModule(nn.Module):
    """Parallel branches of basic blocks, then every branch receives the sum of all branches.

    Args:
        channels: channels per branch, finest first; each branch has half the height and width of the one before.
        blocks: basic blocks per branch.
    """

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        count = len(channels)
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(channels, target, source) for source in range(count)) for target in range(count)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One (B, C_b, h_b, w_b) map per branch in, the same shapes out."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, row in enumerate(self.fuse_layers):
            assert isinstance(row, nn.ModuleList)
            total: Tensor | None = None
            for source, layer in enumerate(row):
                y = layer(maps[source])
                if source > target:
                    y = resize(y, maps[target].shape[-2:])
                total = y if total is None else total + y
            assert total is not None
            fused.append(F.relu(total))
        return fused


def make_stage(channels: Sequence[int], modules: int, blocks: int) -> nn.Sequential:
    """A stage: `modules` exchange modules in a row, all with the same branches."""
    return nn.Sequential(*(ExchangeModule(channels, blocks) for _ in range(modules)))


def make_transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Layers that prepare the branches of the next stage.

    Kept branches pass unchanged (Identity) or change channels by a 3x3 convolution; each new branch is made from the
    coarsest existing map by one 3x3 convolution with stride 2. `after` may have at most one branch more than `before`.
    """
    layers: list[nn.Module] = []
    for branch, channels in enumerate(after):
        if branch >= len(before):
            layers.append(nn.Sequential(conv_bn(before[-1], channels, 3, stride=2)))
        elif before[branch] == channels:
            layers.append(nn.Identity())
        else:
            layers.append(conv_bn(before[branch], channels, 3))
    return nn.ModuleList(layers)


def apply_transition(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
    """Maps of a finished stage -> maps for the next one; a new branch reads the coarsest finished map."""
    return [layer(maps[min(branch, len(maps) - 1)]) for branch, layer in enumerate(transition)]
