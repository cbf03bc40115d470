"""Object-contextual head for one class: features pooled over the rough object are given back to every pixel.

Source: Yuan et al., "Object-Contextual Representations for Semantic Segmentation", ECCV 2020. With a single class the
attention of each pixel over the classes is a softmax over one element and therefore always 1. The pixel and object
queries of the original (`f_pixel`, `f_object`) then have no effect on the output and no gradient; they are left out
here, and `DEAD_PREFIXES` names them for whoever reads a public checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DEAD_PREFIXES = ("object_context_block.f_pixel.", "object_context_block.f_object.")
"""Parameters of the original head that cannot change its output, relative to `ocr_distri_head`."""


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
