"""Parts of XMem: attention gate, residual block, fusion, sensory updates, encoders and decoder.

Architecture: Cheng and Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model",
2022. Parameter names are those of the public checkpoints. Objects are folded into the batch: a tensor of "B*O" rows
holds the objects of the first image, then those of the second, and so on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limnet.blocks.resnet import BasicBlock, Bottleneck, make_stage


def per_object(x: Tensor, objects: int) -> Tensor:
    """Repeat each image for its objects: (B, C, h, w) -> (B*O, C, h, w)."""
    return x.unsqueeze(1).expand(-1, objects, -1, -1, -1).flatten(0, 1)


def resize2(x: Tensor, factor: int) -> Tensor:
    """Bilinear enlargement by an integer factor, half-pixel centres."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


class ChannelGate(nn.Module):
    """Scale channels by sigmoid(MLP(mean) + MLP(max)), the MLP being shared."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> same shape."""
        weight = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * torch.sigmoid(weight)[:, :, None, None]


class _GateConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class SpatialGate(nn.Module):
    """Scale pixels by sigmoid(7x7 convolution of [max over channels, mean over channels])."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _GateConv()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> same shape."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate (Woo et al., "CBAM", 2018, without normalisation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> same shape."""
        return self.SpatialGate(self.ChannelGate(x))


class ResidualBlock(nn.Module):
    """Two pre-activated 3x3 convolutions; a 3x3 skip convolution on the raw input if channels differ."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(in_channels, out_channels, 3, padding=1) if in_channels != out_channels else None
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w)."""
        out = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        return out + (x if self.downsample is None else self.downsample(x))


class FusionBlock(nn.Module):
    """Join an image map and per-object maps: residual block, attention added to its own input, residual block."""

    def __init__(self, image_channels: int, object_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(image_channels + object_channels, mid_channels)
        self.attention = CBAM(mid_channels)
        self.block2 = ResidualBlock(mid_channels, out_channels)

    def forward(self, image: Tensor, maps: Tensor, objects: int) -> Tensor:
        """image (B, Ci, h, w), maps (B*O, Co, h, w) -> (B*O, out, h, w)."""
        x = self.block1(torch.cat([per_object(image, objects), maps], 1))
        return self.block2(x + self.attention(x))


def gated_update(gates: Tensor, state: Tensor) -> Tensor:
    """GRU-like update; `gates` holds forget, update and candidate. Computed in float32 at least."""
    wide = torch.promote_types(gates.dtype, torch.float32)
    forget, update, candidate = gates.to(wide).chunk(3, 1)
    update = torch.sigmoid(update)
    out = torch.sigmoid(forget) * state.to(wide) * (1 - update) + update * torch.tanh(candidate)
    return out.to(state.dtype)


class SensoryReinforcer(nn.Module):
    """Deep update of the sensory state from a freshly encoded value (memory frames)."""

    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(value_dim + hidden_dim, hidden_dim * 3, 3, padding=1)

    def forward(self, value: Tensor, state: Tensor) -> Tensor:
        """value (B*O, Cv, h, w), state (B*O, Ch, h, w) -> new state."""
        return gated_update(self.transform(torch.cat([value, state], 1)), state)


class SensoryUpdater(nn.Module):
    """Update of the sensory state from the decoder's maps at strides 16, 8 and 4 (other frames)."""

    def __init__(self, channels: tuple[int, int, int], mid_channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(channels[0], mid_channels, 1)
        self.g8_conv = nn.Conv2d(channels[1], mid_channels, 1)
        self.g4_conv = nn.Conv2d(channels[2], mid_channels, 1)
        self.transform = nn.Conv2d(mid_channels + hidden_dim, hidden_dim * 3, 3, padding=1)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, state: Tensor) -> Tensor:
        """Decoder maps (B*O, C, h, w), (.., 2h, 2w), (.., 4h, 4w) and state (B*O, Ch, h, w) -> new state."""
        mixed = self.g16_conv(g16) + self.g8_conv(F.avg_pool2d(g8, 2)) + self.g4_conv(F.avg_pool2d(g4, 4))
        return gated_update(self.transform(torch.cat([mixed, state], 1)), state)


class KeyEncoder(nn.Module):
    """ResNet-50 to stride 16, independent of the masks; maps of 1024, 512 and 256 channels at strides 16, 8 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.res2 = make_stage(Bottleneck, 64, 64, 3)
        self.layer2 = make_stage(Bottleneck, 256, 128, 4, 2)
        self.layer3 = make_stage(Bottleneck, 512, 256, 6, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised, padded image (B, 3, H, W) -> (f16, f8, f4)."""
        f4 = self.res2(self.maxpool(torch.relu(self.bn1(self.conv1(image)))))
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class KeyProjection(nn.Module):
    """Key, shrinkage (at least 1) and selection (0 to 1) from the stride-16 map."""

    def __init__(self, channels: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(channels, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(channels, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(channels, key_dim, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) -> key (B, Ck, h, w), shrinkage (B, 1, h, w), selection (B, Ck, h, w)."""
        return self.key_proj(x), self.d_proj(x) ** 2 + 1, torch.sigmoid(self.e_proj(x))


class ValueEncoder(nn.Module):
    """ResNet-18 to stride 16 on image, object mask and the other masks, fused with the image's own features."""

    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(5, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = make_stage(BasicBlock, 64, 64, 2)
        self.layer2 = make_stage(BasicBlock, 64, 128, 2, 2)
        self.layer3 = make_stage(BasicBlock, 128, 256, 2, 2)
        self.fuser = FusionBlock(1024, 256, value_dim, value_dim)
        if hidden_dim > 0:
            self.hidden_reinforce = SensoryReinforcer(value_dim, hidden_dim)

    def forward(self, image: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """Padded image (B, 3, H, W), f16 (B, 1024, h, w), masks (B, O, H, W) -> value (B*O, Cv, h, w)."""
        objects = masks.shape[1]
        others = masks.sum(1, keepdim=True) - masks
        x = torch.cat([per_object(image, objects), torch.stack([masks, others], 2).flatten(0, 1)], 1)
        x = torch.relu(self.maxpool(self.bn1(self.conv1(x))))
        return self.fuser(f16, self.layer3(self.layer2(self.layer1(x))), objects)


class UpsampleBlock(nn.Module):
    """Enlarge the decoder's map by two and add the convolved image map of that scale."""

    def __init__(self, skip_channels: int, up_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, up_channels, 3, padding=1)
        self.out_conv = ResidualBlock(up_channels, out_channels)

    def forward(self, skip: Tensor, x: Tensor, objects: int) -> Tensor:
        """skip (B, Cs, 2h, 2w), x (B*O, C, h, w) -> (B*O, out, 2h, 2w); the skip convolution runs once per image."""
        return self.out_conv(resize2(x, 2) + per_object(self.skip_conv(skip), objects))


class Decoder(nn.Module):
    """From memory readout and sensory state to a logit map, and the next sensory state."""

    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fuser = FusionBlock(1024, value_dim + hidden_dim, 512, 512)
        if hidden_dim > 0:
            self.hidden_update = SensoryUpdater((512, 256, 256 + 1), 256, hidden_dim)
        self.up_16_8 = UpsampleBlock(512, 512, 256)
        self.up_8_4 = UpsampleBlock(256, 256, 256)
        self.pred = nn.Conv2d(256, 1, 3, padding=1)

    def forward(
        self, f16: Tensor, f8: Tensor, f4: Tensor, readout: Tensor, state: Tensor, objects: int, update: bool
    ) -> tuple[Tensor, Tensor]:
        """Image maps (B, ...), readout and state (B*O, ...) -> (state (B*O, Ch, h, w), logits (B*O, 1, 16h, 16w))."""
        g16 = self.fuser(f16, torch.cat([readout, state], 1), objects)
        g8 = self.up_16_8(f8, g16, objects)
        g4 = self.up_8_4(f4, g8, objects)
        logits = self.pred(torch.relu(g4))
        if update and state.shape[1] > 0:
            state = self.hidden_update(g16, g8, torch.cat([g4, logits], 1), state)
        return state, resize2(logits, 4)
