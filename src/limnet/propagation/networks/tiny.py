"""TinyPropagation: a mask goes from slice to slice with a memory of prompted and recent slices, made for CPUs.

What a slice is told about the object, from near to far: the previous slice and its mask (sensory memory), what similar
places in remembered slices were labelled (working memory, prompted slices always in it), and how the object looks:
similarity to its mean embedding and a likelihood of its grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import WIDTHS, Bottleneck, PromptUNet, TinyEncoder, pad_to_stride, product
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice
from limnet.interaction.window import Window, WindowEncoder, join, mask_box, window_around
from limnet.propagation.memory import readout, rows, similarity
from limnet.settings import Settings

if TYPE_CHECKING:
    from limnet.propagation.propagator import Questions

BINS = 32
PROMPTS_IN_MEMORY = 4  # nearest prompted slices that a pass remembers
EMPTY_IN_MEMORY = 2  # nearest empty prompted slices: what does not belong to the object
RECENT_IN_MEMORY = 4  # predicted slices it remembers besides
MEMORY_EVERY = 3  # slices between two remembered predicted slices
TOP_K = 30  # memory places a query listens to
ENCODED_TOGETHER = 4  # slices whose image half is computed in one batch; more are hardly faster, and may be in vain
_MARGIN = 0.14  # the window moves on when the object comes closer to its border


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
    """Log-ratio of object to surroundings for the grey level of each pixel, in [-1, 1]; zero when there is no object.

    Image (B, C, H, W) in [0, 1], `histograms` (B, 2, 32) -> (B, 1, H, W).
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

    Args are those of `TinyInteraction`, and the channels of memory keys and values.

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
    ) -> WindowState:
        """State of a new pass, see `limnet.propagation.propagator.PropagationNetwork`."""
        return WindowState(self, encoder, view, prompts, settings.follow_window)

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
        """Turn features of `encode_image` and a mask (B, 1, H, W) into a memory slice."""
        image, f16 = features[0], features[3]
        padded = functional.pad(mask.float(), _missing(image, mask))
        value = self.mask_in(functional.pixel_unshuffle((padded * 2 - 1).to(f16.dtype), 16)) + self.image_in(f16)
        value = self.value(value)
        shrinkage = self.shrink(f16).float() ** 2 + 1
        return Remembered(self.key(f16).float(), shrinkage, value.float(), *self.look(features, mask))

    def look(self, features: tuple[Tensor, ...], mask: Tensor) -> Look:
        """How the object looks on a slice; the part of `remember` that `segment` wants of the slice just done."""
        image, embedding = features[0], features[5]
        mask = functional.pad(mask.float(), _missing(image, mask))
        coarse = functional.avg_pool2d(mask, 8)
        both8 = torch.cat([coarse, surroundings(coarse, 4)], 1)
        prototypes = product(both8.flatten(2), embedding.flatten(2).transpose(1, 2))
        hard = (mask > 0.5).float()
        histograms = torch.stack([histogram(image, hard), histogram(image, surroundings(hard, 16))], 1)
        return Look(prototypes, both8.sum((2, 3)), histograms)

    def read(self, features: tuple[Tensor, ...], memory: list[Remembered], top_k: int | None = None) -> Tensor:
        """Working-memory readout (B, V + 1, h, w) for a slice, from at least one memory slice.

        The mean value under softmax of the anisotropic L2 similarity of XMem (of the `top_k` best places of each query,
        None for all), and a channel that tells how close the best match is.
        """
        f16 = features[3]
        key, shrinkage, values = (torch.cat([rows(m[part]) for m in memory], 1) for part in range(3))
        scores = similarity(key, shrinkage, rows(self.key(f16)), rows(torch.sigmoid(self.select(f16).float())))
        read = readout(values, scores, top_k)  # B, hw, V
        best = scores.amax(2, keepdim=True)
        out = torch.cat([read.float(), (best / 4).exp()], 2).transpose(1, 2)
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
        """Logits (B, 1, H, W) of a slice, from its features, its `read` and `memory`: how the object looks on prompted
        slices.

        The neighbouring slice just done is told by its look (`last`), its pixels (B, C, H, W) and its probabilities (B,
        1, H, W), both in this slice's window.
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


class WindowState:
    """State of one pass (`limnet.propagation.propagator.PropagationState`), in a window that follows the object.

    Prompted slices come nearest first; the encoder has the cache of the case. Without `follow` it sees the whole slice.
    """

    def __init__(
        self,
        network: TinyPropagation,
        encoder: WindowEncoder,
        view: SliceView,
        prompts: Sequence[tuple[int, Slice]],
        follow: bool = True,
    ):
        self.network, self.encoder, self.view, self.follow = network, encoder, view, follow
        self.window: Window | None = None
        self.index, self.mask = -1, np.zeros(view.shape, np.float32)
        self.permanent: list[Remembered] = []
        self.recent: list[Remembered] = []
        self.steps = 0
        self._due = False  # whether memory is to have the slice just done
        self._seen: dict[Window, Look] = {}  # the slice just done, seen through windows: its look
        first: Window | None = None
        for index, mask in prompts:
            box = mask_box(mask > 0.5)
            if box is not None and len(self.permanent) < PROMPTS_IN_MEMORY:
                self.permanent.append(self._remember(index, mask, self._window(box)))
                first = first or self._window(box)
        empty = [(i, m) for i, m in prompts if not (m > 0.5).any()][:EMPTY_IN_MEMORY]
        self.refused = [self._remember(i, m, first) for i, m in empty] if first is not None else []
        self.looks = [summed(self.permanent)] if self.permanent else []

    def _window(self, box: tuple[int, int, int, int]) -> Window:
        shape = self.view.shape
        if not self.follow:
            box = (0, shape[0], 0, shape[1])
        return window_around(
            box, shape, self.view.spacing, self.network.window_size, share=0.38 if self.follow else 1.0
        )

    def _remember(self, index: int, mask: Slice, window: Window) -> Remembered:
        """What memory makes of a slice in a window."""
        features = self.encoder.in_turn(self.view, index, window)
        with self.encoder.running():
            return self.network.remember(features, window.crop(mask, edge=False).to(self.encoder.device))

    def place(self, index: int, mask: Slice) -> None:
        """Set the state to a prompted slice."""
        self.index, self.mask, self.steps, self._due, self._seen = index, mask, 0, False, {}
        box = mask_box(mask > 0.5)
        if box is not None:
            self.window = self._window(box)

    def step(self, index: int, ahead: Sequence[int] = ()) -> Questions:
        """Predict slice `index`."""
        if self.window is None or not self.permanent:
            return np.zeros(self.view.shape, np.float32)
        if self._due:
            memory = [*self.recent, self._remember(self.index, self.mask, self.window)]
            self.recent, self._due = memory[-RECENT_IN_MEMORY:], False
        result = yield from self._predict(index, self.window, ahead)
        box = mask_box(result > 0.5)
        if box is not None and self.follow and not self._fits(join(box, mask_box(self.mask > 0.5)) or box):
            # the object has outgrown the window or left its middle: predict again in a better one
            self.window = self._window(join(box, mask_box(self.mask > 0.5)) or box)
            result = yield from self._predict(index, self.window, ahead)
            box = mask_box(result > 0.5)
        before, self.steps = self.steps, self.steps + abs(index - self.index)
        self._due = box is not None and self.steps // MEMORY_EVERY > before // MEMORY_EVERY
        self.index, self.mask, self._seen = index, result, {}
        return result

    def _fits(self, box: tuple[int, int, int, int]) -> bool:
        window = self.window
        if window is None:
            return False
        whole = window.height >= self.view.shape[0] and window.width >= self.view.shape[1]
        share = max((box[1] - box[0]) / window.height, (box[3] - box[2]) / window.width)
        inside = window.holds(_kept_on_slice(box, self.view.shape, window), _MARGIN)
        return (inside or whole) and (share > 0.2 or window == self._window(box))

    def _predict(self, index: int, window: Window, ahead: Sequence[int]) -> Questions:
        view, encoder, network = self.view, self.encoder, self.network
        features = encoder.in_turn(view, index, window, ahead[: ENCODED_TOGETHER - 1])
        seen = encoder.in_turn(view, self.index, window)
        mask = window.crop(self.mask, edge=False).to(encoder.device)
        with encoder.running():
            if window not in self._seen:
                self._seen[window] = network.look(seen, mask)
            readout = network.read(features, [*self.permanent, *self.refused, *self.recent], TOP_K)
        logits = yield features, readout, self.looks, self._seen[window], seen[0], mask
        return window.paste(logits, np.zeros(view.shape, np.float32))


def _kept_on_slice(box: tuple[int, int, int, int], shape: tuple[int, int], window: Window) -> tuple[int, int, int, int]:
    """A box whose sides at the slice's border do not count as close to the window's border."""
    middle = (window.top + window.height // 2, window.left + window.width // 2)
    row0 = middle[0] if window.top <= 0 else box[0]
    row1 = middle[0] if window.top + window.height >= shape[0] else box[1]
    column0 = middle[1] if window.left <= 0 else box[2]
    column1 = middle[1] if window.left + window.width >= shape[1] else box[3]
    return min(row0, box[1]), max(row1, box[0]), min(column0, box[3]), max(column1, box[2])
