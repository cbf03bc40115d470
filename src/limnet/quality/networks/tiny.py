"""TinyQuality: which of two masks of a slice is better, judged by what prompted slices show, and how good one is."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from limnet.blocks.tiny import PlainBlock, pad_to_stride, weight_dtype
from limnet.errors import InputError
from limnet.quality.prompt_context import CUES, comparison_cues, reference_channels


class TinyQuality(nn.Module):
    """One scorer looks at a mask beside its rival; the difference of both scores is the logit of equation (2).

    Args:
        image_channels: 1 for grey slices, 3 for RGB.
        widths: channels at strides 4, 8, 16.
        references: whether it also sees prompted slices (`limnet.quality.prompt_context`): the masks alone do not tell
            which object was meant.

    There is no batch normalisation: the same layers see pairs of masks and single masks, whose statistics differ.

    Attributes:
        config: the arguments as plain JSON types.
    """

    def __init__(self, image_channels: int = 1, widths: tuple[int, ...] = (48, 96, 128), references: bool = False):
        super().__init__()
        self.config: dict[str, Any] = {
            "image_channels": image_channels,
            "widths": list(widths),
            "references": references,
        }
        self.image_channels, self.references = image_channels, references
        self.reference_channels = reference_channels(image_channels) if references else 0
        a, b, c = widths
        seen = image_channels + 3 + self.reference_channels
        layers: list[nn.Module] = [nn.Conv2d(16 * seen, a, 3, padding=1), nn.ReLU(), PlainBlock(a)]
        for before, after, depth in ((a, b, 1), (b, c, 2)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU(), *(PlainBlock(after) for _ in range(depth))]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * c, 64), nn.ReLU(), nn.Linear(64, 2))
        self.dropout = nn.Dropout(0.5 if references else 0.0)  # pixels of a few volumes are soon known by heart
        if references:
            self.cues = nn.Sequential(nn.Linear(CUES, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))

    def _judge(self, image: Tensor, mask: Tensor, rival: Tensor, references: Tensor) -> Tensor:
        """(B, 2): score against the rival, and logit of the mask's own quality; references as `_known` gives them."""
        stacked = torch.cat([image * 2 - 1, mask * 2 - 1, rival * 2 - 1, mask - rival, references * 2 - 1], 1)
        stacked = pad_to_stride(stacked.to(weight_dtype(self)), 16)
        x = self.body(functional.pixel_unshuffle(stacked, 4)).float()
        pooled = self.dropout(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return self.head(pooled.to(weight_dtype(self))).float()

    def forward(self, image: Tensor, previous: Tensor, current: Tensor, references: Tensor | None = None) -> Tensor:
        """Logit that the previous mask is the better one.

        Args:
            image: (B, C, H, W) in [0, 1].
            previous: (B, 1, H, W) mask or probability of the round before.
            current: (B, 1, H, W) of this round.
            references: (B, 2 C + 5, H, W) of `reference_crops`; None for none. Networks made without them ignore it.

        Returns:
            (B,) float32. Without references forward(image, a, b) = -forward(image, b, a); with them the newer mask has
            the better odds.

        Raises:
            InputError: references of another shape.
        """
        known = self._known(image, references)
        logit = self._judge(image, previous, current, known)[:, 0] - self._judge(image, current, previous, known)[:, 0]
        if not self.references:
            return logit
        cues = comparison_cues(image, previous, current, known)
        return logit + self.cues(cues.to(weight_dtype(self)))[:, 0].float()

    def _known(self, image: Tensor, references: Tensor | None) -> Tensor:
        """(B, `reference_channels`, H, W): what was given, zeros for nothing, no channels for networks without any."""
        shape = (len(image), self.reference_channels, *image.shape[2:])
        if references is None or not self.references:
            return image.new_zeros(shape)
        if tuple(references.shape) != shape:
            raise InputError(f"references have shape {tuple(references.shape)}; expected {shape}")
        return references

    def score(self, image: Tensor, mask: Tensor, references: Tensor | None = None) -> Tensor:
        """Logit (B,) of the expected Dice of one mask (B, 1, H, W)."""
        return self._judge(image, mask, mask, self._known(image, references))[:, 1]
