"""Assessor: scores batches of slices for fusion (equation (3) of the paper) and for advice on the next slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limnet.image.slice_view import SliceView
from limnet.interaction.features import FeatureCache, WindowEncoder
from limnet.quality.prompt_context import SIZE, Prompted, quality_crops, reference_crops

Slice = NDArray[np.float32]
_SURE_OF_ITSELF = 2  # power of the expected Dice: masks are surer than right; chosen on objects of training volumes


class Assessor:
    """The quality network at work.

    Args:
        network: `TinyQuality`, `ResNetQuality`, or None: then comparisons are undecided (0.5, the new mask wins).
        device: where to compute.
        precision: "fp32", "bf16" or "auto".
        size: side of the windows in network pixels.
        batch: slices compared together.
    """

    def __init__(
        self,
        network: nn.Module | None,
        *,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        size: int = SIZE,
        batch: int = 16,
    ):
        self.batch = batch
        self.size, self.device = size, torch.device(device)
        self.encoder = None if network is None else WindowEncoder(network, device, precision, FeatureCache(0))
        self.network = None if self.encoder is None else self.encoder.network

    def compare(
        self,
        view: SliceView,
        indices: Sequence[int],
        previous: Sequence[Slice],
        current: Sequence[Slice],
        prompted: Prompted | None = None,
    ) -> NDArray[np.float32]:
        """Probability that the previous mask is the better one.

        Args:
            view: volume along the case's axis.
            indices: n slices.
            previous: n masks (H, W) of the round before, float32 probabilities.
            current: n masks of this round.
            prompted: what the user said, for networks with `references`.

        Returns:
            (n,) float32 in [0, 1]; 0.5 where both masks are equal.
        """
        result = np.full(len(indices), 0.5, np.float32)
        if self.network is None or self.encoder is None:
            return result
        differs = [n for n in range(len(indices)) if ((previous[n] > 0.5) != (current[n] > 0.5)).any()]
        for start in range(0, len(differs), self.batch):
            batch = differs[start : start + self.batch]
            crops = [self._crops(view, indices[n], (previous[n], current[n]), prompted) for n in batch]
            seen = [torch.cat(parts) for parts in zip(*crops, strict=True)]
            with self.encoder.running():
                result[batch] = torch.sigmoid(self.network(*seen).float()).cpu().numpy()
        return result

    def quality(self, view: SliceView, indices: Sequence[int], masks: Sequence[Slice]) -> NDArray[np.float32]:
        """Estimated quality (Dice) of each mask.

        Args:
            view: volume along the case's axis.
            indices: n slices.
            masks: n masks (H, W), float32 probabilities.

        Returns:
            (n,) float32 in [0, 1].
        """
        return np.array([expected_dice(mask) ** _SURE_OF_ITSELF for mask in masks], np.float32)

    def _crops(self, view: SliceView, index: int, masks: Sequence[Slice], prompted: Prompted | None) -> list[Tensor]:
        """What the network takes: image, masks and, if it looks at them, prompted slices; (1, C, size, size) each."""
        channels = int(getattr(self.network, "image_channels", 3))
        crops = quality_crops(view, index, masks, channels=channels, size=self.size, device=self.device)
        if getattr(self.network, "references", False):
            seen = reference_crops(view, index, masks, prompted, channels=channels, size=self.size, device=self.device)
            crops.append(seen)
        return crops


def expected_dice(mask: Slice) -> float:
    """Dice that the voxels above 0.5 have on average if every voxel's probability is right.

    The expectations of overlap and of size are divided, as for many independent voxels.

    Args:
        mask: (H, W) float32 probabilities.

    Returns:
        In [0, 1]. Of an empty mask: the probability that its likeliest voxel is background.
    """
    hard = mask > 0.5
    inside = float(mask[hard].sum())
    if not inside:
        return 1.0 - float(mask.max(initial=0.0))
    return 2.0 * inside / (float(hard.sum()) + float(mask.sum()))
