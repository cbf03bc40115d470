"""A click network asked as RITM's evaluation does, for comparisons with published click counts.

The first click sees the whole picture, later ones a crop around the object, zoomed to a fixed size; the crop stays
while it covers all positive clicks and agrees with the newest result. The previous mask is fed back. Known weaknesses
are kept: outside the crop the result is exactly 0, clicks are mapped to a crop by its size, not by the sampling grid,
and where the last result is empty, the whole picture is looked at again.

Source: Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation", ICIP 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.core.rounds import Voxel
from limnet.errors import InputError
from limnet.interaction.networks.hrnet import resize
from limnet.interaction.prompt_maps import draw_stroke

THRESHOLD = 0.49  # of RITM's evaluation
SIZE = 400  # longer side of the crop in network pixels
EXPANSION = 1.4  # of the object's bounding box
SMALLEST = 200  # least height and width of the crop in image pixels
OVERLAP = 0.5  # with the newly computed crop, down to which the old one is kept


class PixelClick(NamedTuple):
    """A click on a slice: pixel row and column, and whether on the object."""

    row: float
    column: float
    positive: bool = True


class Crop(NamedTuple):
    """A rectangle of pixels, all four borders included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top + 1, self.right - self.left + 1

    @property
    def pixels(self) -> tuple[slice, ...]:
        """Index of its pixels in (1, C, H, W)."""
        return slice(None), slice(None), slice(self.top, self.bottom + 1), slice(self.left, self.right + 1)


def object_crop(mask: NDArray[np.bool_], clicks: Sequence[PixelClick], smallest: int = SMALLEST) -> Crop:
    """Crop around a mask, bool (H, W), and all positive clicks: the enlarged box inside the image, at least `smallest`.

    Borders are rounded half to even.
    """
    marked = mask.copy()
    for click in clicks:
        marked[int(click.row), int(click.column)] |= click.positive
    borders: list[int] = []
    for axis in (0, 1):
        (used,) = np.nonzero(marked.any(axis=1 - axis))
        first, last = int(used[0]), int(used[-1])
        centre, extent = 0.5 * (first + last), max(EXPANSION * (last - first + 1), smallest)
        borders.append(max(0, round(centre - 0.5 * extent)))
        borders.append(min(mask.shape[axis] - 1, round(centre + 0.5 * extent)))
    return Crop(*borders)


def crop_overlap(a: Crop, b: Crop) -> float:
    """Product of the intersection over union of the row ranges and of the column ranges, in [0, 1]."""
    overlap = 1.0
    for (first, last), (low, high) in (((a.top, a.bottom), (b.top, b.bottom)), ((a.left, a.right), (b.left, b.right))):
        overlap *= max(0, min(last, high) - max(first, low) + 1) / (max(last, high) - min(first, low) + 1)
    return overlap


def covers_clicks(crop: Crop, clicks: Sequence[PixelClick]) -> bool:
    """Whether all positive clicks lie in the crop, where its last row and column already count as outside."""
    positive = [click for click in clicks if click.positive]
    return all(crop.top <= c.row < crop.bottom and crop.left <= c.column < crop.right for c in positive)


class ZoomSession:
    """One object on one picture.

    Args:
        network: takes image (B, C, H, W) in [0, 1] and prompt channels "previous", "positive" and "negative", in any
            order, and gives {"instances": logits (B, 1, H, W)}, as `limnet.interaction.networks.hrnet.HRNetOCR` does.
        image: float (C, H, W) in [0, 1].
        size: longer side of the crop in network pixels.
        smallest: least height and width of the crop in image pixels.
        flip: average the logits with those of the mirrored image.

    Raises:
        InputError: the network wants other prompt channels.
    """

    def __init__(
        self, network: Any, image: NDArray[np.float32], size: int = SIZE, smallest: int = SMALLEST, flip: bool = True
    ) -> None:
        if set(network.prompt_channels) != {"previous", "positive", "negative"}:
            raise InputError(
                f"network with prompt channels {network.prompt_channels}; this predictor feeds previous, positive and "
                "negative; use limnet.interaction.predictor for other networks"
            )
        self.network, self.size, self.smallest, self.flip = network, size, smallest, flip
        self.image = torch.as_tensor(image)[None].float()
        self.clicks: list[PixelClick] = []
        self.crop: Crop | None = None
        self._fed, self._known = torch.zeros_like(self.image[:, :1]), False

    def start_from(self, mask: NDArray[np.bool_]) -> None:
        """The first click sees this mask, (1, H, W), as the result so far; later clicks see results."""
        self._fed = torch.as_tensor(mask, dtype=torch.float32)[None]

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """One click; bool (1, H, W)."""
        return self.add_click(zyx[1], zyx[2], positive)[None] > THRESHOLD

    def add_click(self, row: float, column: float, positive: bool = True) -> NDArray[np.float32]:
        """Add a click and segment again: (H, W) probabilities."""
        self.clicks.append(PixelClick(row, column, bool(positive)))
        self.crop = self._chosen_crop()
        stack = torch.cat([self.image, self._fed], dim=1)
        if self.crop is None:
            result = self._probabilities(stack, self.clicks)
        else:
            scale = self.size / max(self.crop.size)
            stack = resize(stack[self.crop.pixels], tuple(round(n * scale) for n in self.crop.size))
            steps = [n / m for n, m in zip(stack.shape[2:], self.crop.size, strict=True)]
            clicks = [
                c._replace(row=steps[0] * (c.row - self.crop.top), column=steps[1] * (c.column - self.crop.left))
                for c in self.clicks
            ]
            result = torch.zeros_like(self._fed)
            result[self.crop.pixels] = resize(self._probabilities(stack, clicks), self.crop.size)
        self._fed, self._known = result, True
        return result[0, 0].numpy().copy()

    def _chosen_crop(self) -> Crop | None:
        """Crop for the next look; None is the whole image at its own size."""
        mask = (self._fed > 0.5)[0, 0].numpy()
        if not self._known or not mask.any():
            return None
        fresh, old = object_crop(mask, self.clicks, self.smallest), self.crop
        if old is not None and covers_clicks(old, self.clicks) and crop_overlap(fresh, old) >= OVERLAP:
            return old
        return fresh

    def _probabilities(self, stack: Tensor, clicks: Sequence[PixelClick]) -> Tensor:
        """Image and previous mask (1, C + 1, h, w) with clicks in its pixels -> probabilities (1, 1, h, w)."""
        disks = click_disks(clicks, (stack.shape[2], stack.shape[3]), self.network.click_radius)
        if self.flip:
            stack, disks = torch.cat([stack, stack.flip(3)]), torch.cat([disks, disks.flip(3)])
        maps = {"previous": stack[:, -1:], "positive": disks[:, :1], "negative": disks[:, 1:]}
        prompts = torch.cat([maps[name] for name in self.network.prompt_channels], dim=1)
        weights = self.network.parameters() if isinstance(self.network, nn.Module) else ()
        device = next((w.device for w in weights), stack.device)
        with torch.inference_mode():
            logits = self.network(stack[:, :-1].to(device), prompts.to(device))["instances"].float().to(stack.device)
        if self.flip:
            logits = 0.5 * (logits[:1] + logits[1:].flip(3))
        return torch.sigmoid(logits)


def click_disks(clicks: Sequence[PixelClick], size: tuple[int, int], radius: float) -> Tensor:
    """Disks of a radius in pixels, border included, around positive and negative clicks: (1, 2, H, W) of 0 and 1.

    Fractions count, and clicks from outside are drawn, but for those with both coordinates below 0, as in RITM.
    """
    disks = np.zeros((2, *size), bool)
    for click in clicks:
        if max(click.row, click.column) >= 0:
            draw_stroke(disks[int(not click.positive)], np.array([[click.row, click.column]]), radius)
    return torch.from_numpy(disks.astype(np.float32))[None]
