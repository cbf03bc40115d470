"""Training samples from finished cases: windows of their slices at all scales, with the mask to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.interaction.window import SHARE, Window, mask_box

_WITHOUT = 0.25  # share of slices beyond the object's ends: a proposal has to end, too
_BEYOND = 8  # that many slices beyond an end count as near it
_ONE_PIECE = 0.9  # share of the voxels in the largest component from which on an object counts as one piece


@dataclass(frozen=True)
class Example:
    """A finished case.

    Attributes:
        view: Its volume along the case's axis, in the intensity window of the object.
        mask: Bool (slices, H, W), not empty.
        modality: Of the volume, or None.
    """

    view: SliceView
    mask: NDArray[np.bool_]
    modality: str | None

    def __post_init__(self) -> None:
        if not self.mask.any():
            raise InputError("a case without a mask teaches nothing: give cases whose object is marked")

    @property
    def side(self) -> float:
        """Side in mm of a window that shows the whole object at its scale."""
        box = mask_box(np.asarray(self.mask.any(axis=0)))
        assert box is not None
        rows, columns = self.view.spacing
        return max((box[1] - box[0]) * rows, (box[3] - box[2]) * columns) / SHARE

    @property
    def single(self) -> bool:
        """Whether the object is one piece, but for crumbs."""
        labels, _ = ndimage.label(self.mask, np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        return bool(sizes.max() >= _ONE_PIECE * sizes.sum())


def draw_batch(examples: Sequence[Example], count: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Windows of slices with and without the object.

    Their side lies between the object's scale and the whole slice (a proposal looks from wide to near); place,
    brightness, contrast and gamma vary, for the next patient differs in them. Nothing is mirrored: left and
    right may matter.

    Args:
        examples: Cases, drawn alike.
        count: Windows B.
        size: Side of a window in network pixels.
        rng: Source of chance.

    Returns:
        Images (B, 1, size, size) in [0, 1] and masks (B, 1, size, size), 0 or 1, float32.
    """
    drawn = [_draw(examples[int(rng.integers(len(examples)))], size, rng) for _ in range(count)]
    images, masks = zip(*drawn, strict=True)
    return torch.cat(images), torch.cat(masks)


def _draw(example: Example, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    view, mask = example.view, example.mask
    holding = np.flatnonzero(mask.any((1, 2)))
    if rng.random() < _WITHOUT:
        first, end = max(int(holding[0]) - _BEYOND, 0), min(int(holding[-1]) + _BEYOND + 1, len(view))
        index = int(rng.integers(first, end))
    else:
        index = int(rng.choice(holding))
    low, high = view.window
    width = high - low
    view = view.with_window((low + width * rng.normal(0, 0.05), high + width * rng.normal(0, 0.08)))
    box = mask_box(mask[index]) or mask_box(np.asarray(mask.any(axis=0)))
    assert box is not None
    window = _window(box, view.shape, view.spacing, size, rng)
    image = window.crop(view.gray(index)).clamp(1e-4, 1.0) ** float(np.exp(rng.normal(0, 0.2)))
    image = image + float(rng.normal(0, 0.02))
    return image.clamp(0.0, 1.0), (window.crop(mask[index].astype(np.float32), edge=False) > 0.5).float()


def _window(
    box: tuple[int, int, int, int],
    shape: tuple[int, int],
    spacing: tuple[float, float],
    size: int,
    rng: np.random.Generator,
) -> Window:
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    near = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1]) / SHARE
    side = float(np.exp(rng.uniform(np.log(min(0.8 * near, longest)), np.log(longest))))
    centre = ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
    extent = [max(4, round(side / step)) for step in spacing]
    corner = [round(c + rng.normal(0, 0.12) * n - n / 2) for c, n in zip(centre, extent, strict=True)]
    return Window(corner[0], corner[1], extent[0], extent[1], size)
