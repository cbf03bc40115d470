"""XMem as a stateless network: image encoding, value encoding and segmentation.

Cheng and Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model", ECCV 2022.
Numerically equal to the public implementation and loads its weights (see `limnet.hub.convert`). Memory and
sensory state are kept by the caller (`limnet.propagation.memory.MemoryBank`, `limnet.propagation.stream.Stream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from limnet.errors import InputError
from limnet.propagation.networks.aggregate import aggregate, pad, unpad
from limnet.propagation.networks.xmem_blocks import Decoder, KeyEncoder, KeyProjection, ValueEncoder

if TYPE_CHECKING:
    from limnet.image.slice_view import SliceView
    from limnet.interaction.features import WindowEncoder
    from limnet.propagation.state import PropagationState, Slice
    from limnet.settings import Settings

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageFeatures(NamedTuple):
    """What depends on the image alone: compute once per slice, keep for all rounds, directions and objects.

    Sizes refer to the image padded to a multiple of 16: h = ceil(H / 16), w = ceil(W / 16).

    Attributes:
        key: (B, Ck, h, w), where the similarity is measured.
        shrinkage: (B, 1, h, w), at least 1; weight of an element once it is in the memory.
        selection: (B, Ck, h, w), 0 to 1; weight of the key channels when this image asks the memory.
        f16: (B, 1024, h, w).
        f8: (B, 512, 2h, 2w).
        f4: (B, 256, 4h, 4w).
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor


class XMem(nn.Module):
    """The propagation network of the paper: ResNet-50 keys, ResNet-18 values, 62.2 M parameters.

    Args:
        key_dim: Key channels Ck.
        value_dim: Value channels Cv.
        hidden_dim: Sensory channels Ch; 0 builds the variant without sensory memory.

    Attributes:
        image_channels: 3; images of one channel are repeated.
        stride: 16, the step of keys, values and sensory state in pixels.
        config: Constructor arguments.
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
    ) -> PropagationState:
        """State of a new pass, see `limnet.propagation.state.PropagationNetwork`."""
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
        """Everything that does not depend on masks.

        Args:
            image: (B, 3, H, W) or (B, 1, H, W), values in [0, 1], any size of at least 32.

        Returns:
            Features of the normalised and padded image.

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
        """Encode the objects of a frame for the memory.

        Args:
            image: The image given to `encode_image`, (B, 3 or 1, H, W).
            features: Its features.
            sensory: (B, O, Ch, h, w).
            masks: (B, O, H, W) probabilities without background; the padded size (B, O, 16h, 16w) is taken as it is.
            deep_update: Also refresh the sensory state (the reference does so on every memory frame).

        Returns:
            value (B, O, Cv, h, w) and the sensory state, new or unchanged.

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
        """Per-object logits before aggregation.

        Args:
            features: Features of the image to segment.
            readout: (B, O, Cv, h, w) read from the memory.
            sensory: (B, O, Ch, h, w).
            update_sensory: Return the updated sensory state (frames that do not enter the memory).

        Returns:
            Sensory state (B, O, Ch, h, w) and logits (B, O, 16h, 16w) in the network's dtype.

        Raises:
            InputError: Sizes do not fit.
        """
        batch, _, height, width = features.f16.shape
        if readout.ndim != 5 or readout.shape[0] != batch or readout.shape[-2:] != (height, width):
            raise InputError(
                f"readout has shape {tuple(readout.shape)}; "
                f"expected ({batch}, O, {self.config['value_dim']}, {height}, {width})"
            )
        objects = readout.shape[1]
        dtype = features.f16.dtype
        state, logits = self.decoder(
            features.f16,
            features.f8,
            features.f4,
            readout.to(dtype).flatten(0, 1),
            sensory.to(dtype).flatten(0, 1),
            objects,
            update_sensory,
        )
        return state.unflatten(0, (batch, objects)), logits.squeeze(1).unflatten(0, (batch, objects))

    def segment(
        self,
        features: ImageFeatures,
        readout: Tensor,
        sensory: Tensor,
        update_sensory: bool = True,
        size: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Segment one frame: decode, sigmoid, aggregate.

        Args:
            features: Features of the image to segment.
            readout: (B, O, Cv, h, w) read from the memory.
            sensory: (B, O, Ch, h, w).
            update_sensory: Return the updated sensory state.
            size: (H, W) of the unpadded image, to crop the results to; None keeps the padded size.

        Returns:
            Sensory state (B, O, Ch, h, w), aggregated logits (B, O+1, H, W) and probabilities (B, O+1, H, W),
            background first, float32.
        """
        sensory, raw = self.decode(features, readout, sensory, update_sensory)
        if size is not None:
            raw = unpad(raw, *size, self.stride)
        logits, prob = aggregate(torch.sigmoid(raw.to(torch.promote_types(raw.dtype, torch.float32))), 1)
        return sensory, logits, prob
