"""TinyPropagation: carries a mask from slice to slice with a memory of prompted and recent slices, made for CPUs.

What a slice is told about the object, from near to far: the previous slice and its mask (sensory memory), what similar
places in remembered slices were labelled (working memory, prompted slices always in it), and how the object looks:
similarity to its mean embedding and a likelihood of its grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import WIDTHS, Bottleneck, PromptUNet, TinyEncoder, pad_to_stride, product
from limnet.errors import InputError
from limnet.propagation.networks.attention import dense_readout, similarity, sparse_readout, top_affinity

if TYPE_CHECKING:
    from limnet.image.slice_view import SliceView
    from limnet.interaction.features import WindowEncoder
    from limnet.propagation.state import PropagationState, Slice
    from limnet.settings import Settings

BINS = 32


class Look(NamedTuple):
    """How the object looks on a slice: what `look` makes of its features and mask; attributes as in `Remembered`."""

    prototypes: Tensor
    masses: Tensor
    histograms: Tensor


class Remembered(NamedTuple):
    """One memory slice: what `remember` makes of its features and mask.

    Attributes:
        key: (B, K, h, w) at stride 16.
        shrinkage: (B, 1, h, w), at least 1.
        value: (B, V, h, w).
        prototypes: (B, 2, E) sums of embeddings over the object and over its surroundings.
        masses: (B, 2) areas they were summed over, in stride-8 pixels.
        histograms: (B, 2, 32) grey-level counts of the object and of its surroundings.
    """

    key: Tensor
    shrinkage: Tensor
    value: Tensor
    prototypes: Tensor
    masses: Tensor
    histograms: Tensor


def surroundings(mask: Tensor, reach: int) -> Tensor:
    """Ring around a soft mask: dilated by `reach` pixels, minus the mask. (B, 1, h, w) in [0, 1]."""
    grown = functional.pad(mask, (reach, reach, reach, reach))
    for axis in (2, 3):
        size = 1  # of the stretch whose maximum every place holds; doubled, for long pooling kernels are slow
        while size <= 2 * reach:
            step = min(size, 2 * reach + 1 - size)
            length = grown.shape[axis] - step
            grown = torch.maximum(grown.narrow(axis, 0, length), grown.narrow(axis, step, length))
            size += step
    return (grown - mask).clamp_min(0)


def histogram(image: Tensor, weights: Tensor) -> Tensor:
    """Weighted grey-level histogram with 32 bins over [0, 1]: (B, 1, H, W) twice to (B, 32)."""
    index = (image.float().mean(1).clamp(0, 1) * (BINS - 1)).round().long().flatten(1)
    copies = 1
    if image.is_cuda:  # many threads that add to one bin wait for each other: give them several to choose from
        copies = 64
        index = index + BINS * (torch.arange(index.shape[1], device=image.device) % copies)
    counts = torch.zeros(len(image), BINS * copies, device=image.device)
    return counts.scatter_add(1, index, weights.float().flatten(1)).unflatten(1, (copies, BINS)).sum(1)


def likelihood(image: Tensor, histograms: Tensor) -> Tensor:
    """Log-ratio of object to surroundings for the grey level of each pixel, in [-1, 1].

    Args:
        image: (B, C, H, W) in [0, 1].
        histograms: (B, 2, 32).

    Returns:
        (B, 1, H, W); zero when there is no object.
    """
    kernel = torch.tensor([[[0.1, 0.2, 0.4, 0.2, 0.1]]], device=histograms.device)
    smooth = functional.conv1d(histograms.float().flatten(0, 1)[:, None], kernel, padding=2).reshape(histograms.shape)
    share = smooth / smooth.sum(2, keepdim=True).clamp_min(1e-6) + 1e-3
    ratio = (torch.log(share[:, 0] / share[:, 1]) / 4).clamp(-1, 1)
    ratio = ratio * (histograms[:, 0].sum(1, keepdim=True) > 0)
    grey = image.float().mean(1, keepdim=True)
    index = (grey.clamp(0, 1) * (BINS - 1)).round().long()
    return ratio.gather(1, index.flatten(1)).reshape(grey.shape)


class TinyPropagation(nn.Module):
    """Memory network for windows at the object's scale.

    Args:
        image_channels: 1 for grey slices, 3 for RGB.
        widths: channels at strides 4, 8, 16, 32.
        depths: residual blocks of the image half.
        embedding: channels of the similarity embedding.
        key_dim: channels of memory keys.
        value_dim: channels of memory values.
        decoder: mask-dependent half, always "unet" (`PromptUNet`); model folders name it.
        window_size: side in pixels of the windows it was trained on and is shown in use.

    Raises:
        InputError: unknown decoder.
    """

    def __init__(
        self,
        image_channels: int = 1,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = (2, 1, 2, 2),
        embedding: int = 32,
        key_dim: int = 64,
        value_dim: int = 128,
        decoder: str = "unet",
        window_size: int = 160,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "image_channels": image_channels,
            "widths": list(widths),
            "depths": list(depths),
            "embedding": embedding,
            "key_dim": key_dim,
            "value_dim": value_dim,
            "decoder": decoder,
            "window_size": window_size,
        }
        self.window_size = window_size
        self.image_channels = image_channels
        self.encoder = TinyEncoder(image_channels, tuple(widths), tuple(depths), embedding)
        self.key = nn.Conv2d(widths[2], key_dim, 3, padding=1)
        self.shrink = nn.Conv2d(widths[2], 1, 3, padding=1)
        self.select = nn.Conv2d(widths[2], key_dim, 3, padding=1)
        nn.init.normal_(self.shrink.weight, std=0.01)  # its square is used: at exactly zero it could never learn
        nn.init.zeros_(self.shrink.bias)  # type: ignore[arg-type]
        self.mask_in = nn.Conv2d(256, value_dim, 1)
        self.image_in = nn.Conv2d(widths[2], value_dim, 1)
        self.value = nn.Sequential(Bottleneck(value_dim, 96), Bottleneck(value_dim, 96))
        if decoder != "unet":
            raise InputError(f"decoder is {decoder!r}; 'unet' is the only one")
        self.decoder = PromptUNet(6, 4, value_dim + 1, tuple(widths))
        self.copy_gain = nn.Parameter(torch.tensor(3.0))  # an untrained decoder copies the previous mask
        nn.init.zeros_(self.decoder.head.bias)  # type: ignore[arg-type]

    def start(
        self, encoder: WindowEncoder, view: SliceView, prompts: Sequence[tuple[int, Slice]], settings: Settings
    ) -> PropagationState:
        """State of a new pass, see `limnet.propagation.state.PropagationNetwork`."""
        from limnet.propagation.windows import WindowState

        return WindowState(self, encoder, view, prompts, self.window_size, settings.follow_window)

    def examine(self, first: Tensor, second: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Outputs to compare copies of weights by: of two slices (1, C, H, W), the first with its mask (1, 1, H, W)."""
        features, following = self.encode_image(first), self.encode_image(second)
        kept = self.remember(features, mask)
        readout = self.read(following, [kept])
        return {
            "key": kept.key,
            "readout": readout,
            "logits": self.segment(following, readout, [kept], kept, first, mask),
        }

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image half: (B, C, H, W) in [0, 1] to (padded image, f4, f8, f16, f32, embedding), as `TinyInteraction`."""
        image = pad_to_stride(image)
        return (image, *self.encoder(image))

    def remember(self, features: tuple[Tensor, ...], mask: Tensor) -> Remembered:
        """Turn a slice and its mask into a memory slice.

        Args:
            features: result of `encode_image`.
            mask: (B, 1, H, W) probabilities.
        """
        image, f16 = features[0], features[3]
        padded = functional.pad(mask.float(), _missing(image, mask))
        value = self.mask_in(functional.pixel_unshuffle((padded * 2 - 1).to(f16.dtype), 16)) + self.image_in(f16)
        value = self.value(value)
        shrinkage = self.shrink(f16).float() ** 2 + 1
        return Remembered(self.key(f16).float(), shrinkage, value.float(), *self.look(features, mask))

    def look(self, features: tuple[Tensor, ...], mask: Tensor) -> Look:
        """How the object looks on a slice; the part of `remember` that `segment` wants of the slice just done.

        Args:
            features: result of `encode_image`.
            mask: (B, 1, H, W) probabilities.
        """
        image, embedding = features[0], features[5]
        mask = functional.pad(mask.float(), _missing(image, mask))
        coarse = functional.avg_pool2d(mask, 8)
        both8 = torch.cat([coarse, surroundings(coarse, 4)], 1)
        prototypes = product(both8.flatten(2), embedding.flatten(2).transpose(1, 2))
        hard = (mask > 0.5).float()
        histograms = torch.stack([histogram(image, hard), histogram(image, surroundings(hard, 16))], 1)
        return Look(prototypes, both8.sum((2, 3)), histograms)

    def read(self, features: tuple[Tensor, ...], memory: list[Remembered], top_k: int | None = None) -> Tensor:
        """Working-memory readout for a slice.

        Args:
            features: of the slice.
            memory: at least one memory slice.
            top_k: keep only the k best memory places of each query, None for all.

        Returns:
            (B, V + 1, h, w): the mean value under softmax of the anisotropic L2 similarity of XMem, and a channel that
            tells how close the best match is.
        """
        f16 = features[3]
        scores = similarity(
            torch.cat([_rows(m.key) for m in memory], 1),
            torch.cat([_rows(m.shrinkage) for m in memory], 1),
            _rows(self.key(f16)),
            _rows(torch.sigmoid(self.select(f16).float())),
        )  # B, hw, N
        values = torch.cat([_rows(m.value) for m in memory], 1)
        if top_k is None:
            readout = dense_readout(values, scores)
        else:
            weights, index = top_affinity(scores, top_k)
            readout = torch.stack([sparse_readout(*parts) for parts in zip(values, weights, index, strict=True)])
        best = scores.amax(2, keepdim=True)
        out = torch.cat([readout.float(), (best / 4).exp()], 2).transpose(1, 2)
        return out.reshape(len(f16), -1, *f16.shape[-2:])

    def segment(
        self,
        features: tuple[Tensor, ...],
        readout: Tensor,
        memory: Sequence[Look | Remembered],
        last: Look | Remembered,
        last_image: Tensor,
        last_mask: Tensor,
    ) -> Tensor:
        """Logits (B, 1, H, W) of a slice.

        Args:
            features: of the slice.
            readout: result of `read`.
            memory: prompted slices, for the look of the object.
            last: the neighbouring slice just done, for its look there.
            last_image: (B, C, H, W), that slice in this slice's window.
            last_mask: (B, 1, H, W), its probabilities in this slice's window.
        """
        height, width = last_mask.shape[-2:]
        image, f4, f8, f16, f32, embedding = features
        last_mask = functional.pad(last_mask.float(), _missing(image, last_mask))
        last_grey = pad_to_stride(last_image).float().mean(1, keepdim=True)
        grey = image.float().mean(1, keepdim=True)
        known = summed(memory)
        maps = torch.cat(
            [
                last_mask * 2 - 1,
                last_grey * 2 - 1,
                grey * 2 - 1,
                (grey - last_grey) * 2,
                likelihood(image, known.histograms),
                likelihood(image, last.histograms),
            ],
            1,
        )
        looks = functional.normalize(torch.cat([known.prototypes, last.prototypes], 1), dim=2)
        similar = product(looks, embedding.flatten(2)).reshape(len(image), 4, *embedding.shape[-2:])
        logits = self.decoder((f4, f8, f16, f32), maps, similar, readout) + self.copy_gain * maps[:, :1]
        return logits[..., :height, :width]


def summed(memory: Sequence[Look | Remembered]) -> Look:
    """How the object looks on several slices together."""
    parts = ((m.prototypes, m.masses, m.histograms) for m in memory)
    return Look(*(torch.stack(values).sum(0) for values in zip(*parts, strict=True)))


def _missing(image: Tensor, mask: Tensor) -> tuple[int, int, int, int]:
    """Padding that gives a mask the size of a padded image."""
    return 0, image.shape[-1] - mask.shape[-1], 0, image.shape[-2] - mask.shape[-2]


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, hw, C)."""
    return x.flatten(2).transpose(1, 2)
