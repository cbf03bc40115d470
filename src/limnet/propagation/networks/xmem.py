"""XMem as a stateless network: image encoding, value encoding and segmentation.

Cheng and Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model", ECCV 2022.
Numerically equal to the public implementation, whose parameter names it has (see `limnet.hub.convert`). Memory and
sensory state are kept by the caller (`limnet.propagation.memory.MemoryBank`, `limnet.propagation.stream.Stream`).
Objects are folded into the batch: a tensor of "B*O" rows holds the objects of the first image, then those of the
second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limnet.blocks.resnet import BasicBlock, Bottleneck, make_stage
from limnet.errors import InputError

if TYPE_CHECKING:
    from limnet.image.slice_view import SliceView
    from limnet.image.slices import Slice
    from limnet.interaction.window import WindowEncoder
    from limnet.propagation.stream import StreamState
    from limnet.settings import Settings

EPSILON = 1e-7
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def aggregate(prob: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Turn independent object probabilities into one distribution over background and objects.

    The background is the product of (1 - p); everything is clamped to [1e-7, 1 - 1e-7], taken to logits and normalised
    by a softmax (Oh et al., STM, 2019, as used by XMem). Computed in float32 at least. Objects lie along `dim` of
    `prob`, in [0, 1]; logits and probabilities come back one longer along it, background first.
    """
    prob = prob.to(torch.promote_types(prob.dtype, torch.float32))
    background = torch.prod(1 - prob, dim, keepdim=True)
    everything = torch.cat([background, prob], dim).clamp(EPSILON, 1 - EPSILON)
    logits = torch.log(everything / (1 - everything))
    return logits, torch.softmax(logits, dim)


def padding(height: int, width: int, multiple: int = 16) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) that make both sizes divisible; the odd pixel goes right and to the bottom."""
    down, across = -height % multiple, -width % multiple
    return across // 2, across - across // 2, down // 2, down - down // 2


def pad(x: Tensor, multiple: int = 16) -> Tensor:
    """Zero-pad the last two axes (H, W) to a multiple, centred."""
    left, right, top, bottom = padding(x.shape[-2], x.shape[-1], multiple)
    return F.pad(x, (left, right, top, bottom)) if left or right or top or bottom else x


def unpad(x: Tensor, height: int, width: int, multiple: int = 16) -> Tensor:
    """Crop the last two axes back to (height, width), undoing `pad`."""
    left, _, top, _ = padding(height, width, multiple)
    return x[..., top : top + height, left : left + width]


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


class SpatialGate(nn.Module):
    """Scale pixels by sigmoid(7x7 convolution of [max over channels, mean over channels])."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.ModuleDict({"conv": nn.Conv2d(2, 1, 7, padding=3)})  # as the public checkpoints name it

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> same shape."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial["conv"](pooled))


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


class ImageFeatures(NamedTuple):
    """What depends on the image alone: compute once per slice, keep for all rounds, directions and objects.

    Sizes refer to the image padded to a multiple of 16: h = ceil(H / 16), w = ceil(W / 16).

    Attributes:
        key: (B, Ck, h, w), where the similarity is measured.
        shrinkage: (B, 1, h, w), at least 1; weight of an element once it is in the memory.
        selection: (B, Ck, h, w), 0 to 1; weight of the key channels when this image asks the memory.
        f16, f8, f4: (B, 1024, h, w), (B, 512, 2h, 2w) and (B, 256, 4h, 4w).
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor


class XMem(nn.Module):
    """The propagation network of the paper: ResNet-50 keys, ResNet-18 values, 62.2 M parameters.

    Keys, values and sensory state lie on a grid of 16 pixels (`stride`). Images of one channel are repeated.

    Args:
        key_dim: Key channels Ck.
        value_dim: Value channels Cv, at least 16.
        hidden_dim: Sensory channels Ch; 0 builds the variant without sensory memory.

    Raises:
        InputError: Fewer channels than these.
    """

    image_channels = 3
    stride = 16

    def __init__(self, key_dim: int = 64, value_dim: int = 512, hidden_dim: int = 64) -> None:
        super().__init__()
        for name, size, least in (("key_dim", key_dim, 1), ("value_dim", value_dim, 16), ("hidden_dim", hidden_dim, 0)):
            if size < least:
                raise InputError(f"{name} is {size}; it must be at least {least}")
        self.config: dict[str, Any] = {"key_dim": key_dim, "value_dim": value_dim, "hidden_dim": hidden_dim}
        self.key_encoder = KeyEncoder()
        self.value_encoder = ValueEncoder(value_dim, hidden_dim)
        self.key_proj = KeyProjection(1024, key_dim)
        self.decoder = Decoder(value_dim, hidden_dim)
        self.register_buffer("_mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def start(
        self, encoder: WindowEncoder, view: SliceView, prompts: Sequence[tuple[int, Slice]], settings: Settings
    ) -> StreamState:
        """State of a new pass, see `limnet.propagation.propagator.PropagationNetwork`."""
        from limnet.propagation.memory import MemoryConfig
        from limnet.propagation.stream import StreamState

        memory = MemoryConfig(min_frames=settings.memory_min_frames, max_frames=settings.memory_max_frames)
        return StreamState(self, encoder, view, prompts, settings.short_side, memory)

    def examine(self, first: Tensor, second: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Outputs to compare copies of weights by: of two slices (1, C, H, W), the first with its mask (1, 1, H, W)."""
        features = self.encode_image(first)
        value, sensory = self.encode_value(first, features, self.initial_sensory(features, 1), mask, True)
        _, _, probability = self.segment(self.encode_image(second), value, sensory)
        return {"key": features.key, "value": value, "probability": probability}

    def _prepare(self, image: Tensor) -> Tensor:
        """Normalise with the ImageNet statistics, then pad with zeros."""
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise InputError(f"image has shape {tuple(image.shape)}; XMem takes (B, 3, H, W) or (B, 1, H, W) in [0, 1]")
        wide = torch.promote_types(image.dtype, torch.float32)
        mean, std = self.get_buffer("_mean").to(wide), self.get_buffer("_std").to(wide)
        return pad((image.to(wide) - mean) / std, self.stride).to(self.key_proj.key_proj.weight.dtype)

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """Features of images (B, 3 or 1, H, W) in [0, 1], H and W at least 32: all that does not depend on masks.

        Raises:
            InputError: Wrong number of axes or channels.
        """
        f16, f8, f4 = self.key_encoder(self._prepare(image))
        key, shrinkage, selection = self.key_proj(f16)
        return ImageFeatures(key, shrinkage, selection, f16, f8, f4)

    def initial_sensory(self, features: ImageFeatures, objects: int) -> Tensor:
        """Zero sensory state (B, O, Ch, h, w)."""
        batch, _, height, width = features.f16.shape
        return features.f16.new_zeros(batch, objects, self.config["hidden_dim"], height, width)

    def encode_value(
        self, image: Tensor, features: ImageFeatures, sensory: Tensor, masks: Tensor, deep_update: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Encode the objects of a frame for the memory: value (B, O, Cv, h, w) and the sensory state, new or unchanged.

        Args:
            image: The image given to `encode_image`, (B, 3 or 1, H, W).
            features: Its features.
            sensory: (B, O, Ch, h, w).
            masks: (B, O, H, W) probabilities without background; the padded size (B, O, 16h, 16w) is taken as it is.
            deep_update: Also refresh the sensory state (the reference does so on every memory frame).

        Raises:
            InputError: Sizes do not fit.
        """
        batch, _, height, width = features.f16.shape
        padded = (height * self.stride, width * self.stride)
        if masks.ndim != 4 or masks.shape[0] != batch or masks.shape[-2:] not in (image.shape[-2:], padded):
            raise InputError(
                f"masks have shape {tuple(masks.shape)}; expected ({batch}, O, H, W) with H, W of the image, "
                f"{tuple(image.shape[-2:])}, or of the padded image, {padded}"
            )
        objects = masks.shape[1]
        if masks.shape[-2:] != padded:
            masks = pad(masks, self.stride)
        value = self.value_encoder(self._prepare(image), features.f16, masks.to(features.f16.dtype))
        if deep_update and self.config["hidden_dim"] > 0:
            state = self.value_encoder.hidden_reinforce(value, sensory.flatten(0, 1))
            sensory = state.unflatten(0, (batch, objects))
        return value.unflatten(0, (batch, objects)), sensory

    def decode(
        self, features: ImageFeatures, readout: Tensor, sensory: Tensor, update_sensory: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Per-object logits before aggregation, (B, O, 16h, 16w) in the network's dtype, after the sensory state.

        Args:
            features: Features of the image to segment.
            readout: (B, O, Cv, h, w) read from the memory.
            sensory: (B, O, Ch, h, w).
            update_sensory: Return the updated sensory state (frames that do not enter the memory).
        """
        batch, objects = readout.shape[:2]
        asked, state = (x.to(features.f16.dtype).flatten(0, 1) for x in (readout, sensory))
        state, logits = self.decoder(features.f16, features.f8, features.f4, asked, state, objects, update_sensory)
        return state.unflatten(0, (batch, objects)), logits.squeeze(1).unflatten(0, (batch, objects))

    def segment(
        self,
        features: ImageFeatures,
        readout: Tensor,
        sensory: Tensor,
        update_sensory: bool = True,
        size: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Segment one frame: `decode`, sigmoid, aggregate; cropped to `size` (H, W) of the unpadded image.

        Sensory state (B, O, Ch, h, w), aggregated logits and probabilities (B, O+1, H, W), background first, float32.
        """
        sensory, raw = self.decode(features, readout, sensory, update_sensory)
        if size is not None:
            raw = unpad(raw, *size, self.stride)
        logits, prob = aggregate(torch.sigmoid(raw.to(torch.promote_types(raw.dtype, torch.float32))), 1)
        return sensory, logits, prob
