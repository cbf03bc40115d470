"""Building blocks of HRNet + OCR: exchange between resolutions, stages, and the object-contextual head for one class.

Module names follow the public checkpoints, so that their tensors load without renaming. All resizing is bilinear with
aligned corners and explicit sizes, so any input size works.

Sources: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020; Yuan et al.,
"Object-Contextual Representations for Semantic Segmentation", ECCV 2020. With a single class the attention of each
pixel over the classes is a softmax over one element and therefore always 1. The pixel and object queries of the
original (`f_pixel`, `f_object`) then have no effect on the output and no gradient; they are left out here, and
`DEAD_PREFIXES` names them for whoever reads a public checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limnet.blocks.resnet import BasicBlock

DEAD_PREFIXES = ("object_context_block.f_pixel.", "object_context_block.f_object.")
"""Parameters of the original head that cannot change its output, relative to `ocr_distri_head`."""


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
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c, c) for _ in range(blocks))) for c in channels)
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


def _conv_bn_relu(inputs: int, outputs: int) -> list[nn.Module]:
    """1x1 convolution, then batch norm and ReLU in a container of their own, as the public checkpoints name them."""
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU())]


def gather_object(features: Tensor, logits: Tensor) -> Tensor:
    """Average of the features weighted by a spatial softmax of the rough object logits.

    Args:
        features: (B, C, h, w).
        logits: (B, 1, h, w), the rough segmentation.

    Returns:
        (B, C, 1, 1). The softmax runs in float32 whatever the feature type.
    """
    weights = torch.softmax(logits.flatten(2).float(), dim=2).to(features.dtype)
    return torch.matmul(weights, features.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(3)


class _ObjectContext(nn.Module):
    """Object vector -> the context every pixel receives."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.f_down = nn.Sequential(*_conv_bn_relu(channels, key_channels))
        self.f_up = nn.Sequential(*_conv_bn_relu(key_channels, channels))

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C, 1, 1), same shape out."""
        return self.f_up(self.f_down(vector))


class ObjectDistribution(nn.Module):
    """Joins the object context to the features of every pixel.

    Args:
        channels: feature channels in and out.
        key_channels: inner width of the context transform.
        dropout: probability of dropping a whole output channel while training.
    """

    def __init__(self, channels: int, key_channels: int, dropout: float) -> None:
        super().__init__()
        self.object_context_block = _ObjectContext(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(*_conv_bn_relu(2 * channels, channels), nn.Dropout2d(dropout))

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """Features (B, C, h, w) and object vector (B, C, 1, 1) -> (B, C, h, w). Training needs B >= 2 (batch norm)."""
        context = self.object_context_block(vector).expand_as(features)
        return self.conv_bn_dropout(torch.cat([context, features], dim=1))
