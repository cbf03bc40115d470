"""Predictor of the paper's 2D reference: zoom on the object, mirrored second look, previous mask fed back.

It follows the published evaluation to the number, known weaknesses included: outside the crop the result is exactly 0,
and clicks are mapped to a crop by its size, not by the sampling grid. Where the last result is empty, the whole image
is looked at and nothing is cut off. `limnet.interaction.predictor` is what interactive work uses; this class is for
comparisons with published click counts.

Source: Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation", ICIP 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from limnet.errors import InputError
from limnet.interaction.networks.hrnet_blocks import resize

UNUSED = (-1.0, -1.0, -1.0)


class ClickNetwork(Protocol):
    """What the predictor needs of a network; see `limnet.interaction.networks.hrnet.HRNetOCR`."""

    image_channels: int
    prompt_channels: tuple[str, ...]
    click_radius: float

    def __call__(self, image: Tensor, prompts: Tensor) -> dict[str, Tensor]:
        """Image (B, C, H, W) in [0, 1] and prompts (B, P, H, W) -> {"instances": logits (B, 1, H, W)}."""


class PixelClick(NamedTuple):
    """A click on a slice: pixel row and column, whether on the object, and its place in the order of clicks."""

    row: float
    column: float
    positive: bool
    order: int


class Crop(NamedTuple):
    """A rectangle of pixels, all four borders included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows in the crop."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Columns in the crop."""
        return self.right - self.left + 1


def object_crop(mask: np.ndarray, clicks: Sequence[PixelClick], expansion: float, smallest: int) -> Crop:
    """Crop around the mask and all positive clicks.

    Args:
        mask: bool (H, W), not empty.
        clicks: negative ones are ignored.
        expansion: factor on height and width of the bounding box.
        smallest: least height and width before clamping to the image.

    Returns:
        The enlarged box inside the image, borders rounded half to even.
    """
    marked = mask.copy()
    for click in clicks:
        if click.positive:
            marked[int(click.row), int(click.column)] = True
    borders: list[int] = []
    for axis in (0, 1):
        (used,) = np.nonzero(marked.any(axis=1 - axis))
        first, last = int(used[0]), int(used[-1])
        centre, extent = 0.5 * (first + last), max(expansion * (last - first + 1), smallest)
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
    return all(
        crop.top <= click.row < crop.bottom and crop.left <= click.column < crop.right
        for click in clicks
        if click.positive
    )


class ZoomPredictor:
    """Segments one object on one image click by click.

    Args:
        network: takes the prompt channels "previous", "positive" and "negative", in any order; used in evaluation mode
            as it is given.
        flip: average the logits with those of the mirrored image.
        target_size: longer side of the crop in network pixels (aspect kept), or (height, width) for a fixed size.
        skip_clicks: that many first clicks see the whole image at its own size. 0: the first click is predicted a
            second time on the crop if the object is small. -1: never the own size, the first click sees the whole
            image resized to `target_size`.
        expansion: the crop is the object's bounding box enlarged by this factor.
        min_crop_size: least height and width of the crop in image pixels.
        keep_overlap: the crop is kept while its overlap with the newly computed one is at least this.
        threshold: probability above which a pixel belongs to the object when the crop is chosen.

    Raises:
        InputError: the network wants other prompt channels.
    """

    def __init__(
        self,
        network: ClickNetwork,
        flip: bool = True,
        target_size: int | tuple[int, int] = 400,
        skip_clicks: int = 1,
        expansion: float = 1.4,
        min_crop_size: int = 200,
        keep_overlap: float = 0.5,
        threshold: float = 0.5,
    ) -> None:
        if set(network.prompt_channels) != {"previous", "positive", "negative"}:
            raise InputError(
                f"network with prompt channels {network.prompt_channels}; this predictor feeds previous, positive and "
                "negative; use limnet.interaction.predictor for other networks"
            )
        self.network = network
        self.flip = flip
        self.target_size = target_size
        self.skip_clicks = skip_clicks
        self.expansion = expansion
        self.min_crop_size = min_crop_size
        self.keep_overlap = keep_overlap
        self.threshold = threshold
        self.clicks: list[PixelClick] = []
        self.crop: Crop | None = None
        self.network_calls = 0
        self._image: Tensor | None = None
        self._previous: Tensor | None = None

    @classmethod
    def cvpr(cls, network: ClickNetwork, target_size: int = 400, flip: bool = True) -> ZoomPredictor:
        """The mode of the published tables: first click on the whole image, then crops with 400 pixels (DAVIS: 600)."""
        return cls(network, flip=flip, target_size=target_size, skip_clicks=1)

    @classmethod
    def fixed(cls, network: ClickNetwork, size: int = 400, flip: bool = True) -> ZoomPredictor:
        """The mode of the published demo: every click on `size` x `size` pixels, aspect not kept."""
        return cls(network, flip=flip, target_size=(size, size), skip_clicks=-1)

    def set_image(self, image: np.ndarray | Tensor) -> None:
        """Starts a new object.

        Args:
            image: (C, H, W) floats in [0, 1] with the channels of the network.

        Raises:
            InputError: wrong shape or type.
        """
        tensor = torch.as_tensor(image)
        if tensor.ndim != 3 or tensor.shape[0] != self.network.image_channels or not tensor.is_floating_point():
            raise InputError(
                f"image of shape {tuple(tensor.shape)} and type {tensor.dtype}; expected floats in [0, 1] of shape "
                f"({self.network.image_channels}, H, W)"
            )
        self._image = tensor[None].float()
        self._previous = None
        self.clicks, self.crop, self.network_calls = [], None, 0

    def add_click(
        self, row: float, column: float, positive: bool = True, previous: np.ndarray | None = None
    ) -> np.ndarray:
        """Adds a click and segments again.

        Args:
            row: pixel row.
            column: pixel column.
            positive: on the object (True) or on background.
            previous: (H, W) probabilities to feed instead of the last result.

        Returns:
            (H, W) float32 probabilities.

        Raises:
            InputError: no image was set, the click lies outside it, or `previous` has another size.
        """
        image = self._require_image()
        height, width = image.shape[2:]
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(f"click at row {row}, column {column}; the image has {height} rows and {width} columns")
        if previous is not None and previous.shape != (height, width):
            raise InputError(f"previous mask of shape {previous.shape}; the image is {height} x {width}")
        self.clicks.append(PixelClick(row, column, bool(positive), len(self.clicks)))
        zeros = torch.zeros_like(image[:, :1])
        stored = zeros if self._previous is None else self._previous
        fed = stored if previous is None else torch.as_tensor(previous, dtype=torch.float32)[None, None]
        result = self._look(image, fed, self._previous)
        if self._worth_second_look(result):
            result = self._look(image, stored, result)
        self._previous = result
        return result[0, 0].numpy().copy()

    def _require_image(self) -> Tensor:
        if self._image is None:
            raise InputError("no image yet: call set_image before the first click")
        return self._image

    def _look(self, image: Tensor, fed: Tensor, known: Tensor | None) -> Tensor:
        """Probabilities (1, 1, H, W): `fed` is the network's previous mask, `known` decides about the crop."""
        self.crop = self._choose_crop(known)
        stack = torch.cat([image, fed], dim=1)
        if self.crop is None:
            return self._probabilities(stack, self.clicks)
        crop = self.crop
        stack = resize(stack[:, :, crop.top : crop.bottom + 1, crop.left : crop.right + 1], self._network_size(crop))
        rows, columns = stack.shape[2:]
        clicks = [
            click._replace(
                row=rows * (click.row - crop.top) / crop.height,
                column=columns * (click.column - crop.left) / crop.width,
            )
            for click in self.clicks
        ]
        result = torch.zeros_like(fed)
        result[:, :, crop.top : crop.bottom + 1, crop.left : crop.right + 1] = resize(
            self._probabilities(stack, clicks), (crop.height, crop.width)
        )
        return result

    def _choose_crop(self, known: Tensor | None) -> Crop | None:
        """Crop for the next look; None is the whole image at its own size."""
        if len(self.clicks) <= self.skip_clicks:
            return None
        height, width = self._require_image().shape[2:]
        mask = None if known is None else (known > self.threshold)[0, 0].numpy()
        if mask is not None and mask.any():
            fresh = object_crop(mask, self.clicks, self.expansion, self.min_crop_size)
        elif self.skip_clicks >= 0:
            return None
        else:
            fresh = Crop(0, height - 1, 0, width - 1)
        old = self.crop
        if old is not None and covers_clicks(old, self.clicks) and crop_overlap(fresh, old) >= self.keep_overlap:
            return old
        return fresh

    def _worth_second_look(self, result: Tensor) -> bool:
        """Whether the object just found on the whole image is so small that a crop would have been better."""
        if self.crop is not None or self.skip_clicks > 0:
            return False
        mask = (result > self.threshold)[0, 0].numpy()
        if not mask.any():
            return False
        whole = Crop(0, mask.shape[0] - 1, 0, mask.shape[1] - 1)
        return crop_overlap(object_crop(mask, [], self.expansion, self.min_crop_size), whole) < 0.5

    def _network_size(self, crop: Crop) -> tuple[int, int]:
        """Height and width the crop is resized to."""
        if not isinstance(self.target_size, int):
            return self.target_size
        scale = self.target_size / max(crop.height, crop.width)
        return round(crop.height * scale), round(crop.width * scale)

    def _probabilities(self, stack: Tensor, clicks: Sequence[PixelClick]) -> Tensor:
        """Image and previous mask (1, C + 1, h, w) with clicks in its pixels -> probabilities (1, 1, h, w)."""
        width = stack.shape[3]
        points = [_points(clicks)]
        if self.flip:
            stack = torch.cat([stack, stack.flip(3)])
            points.append(_points([click._replace(column=width - click.column - 1) for click in clicks]))
        disks = draw_disks(torch.tensor(points), (stack.shape[2], width), self.network.click_radius)
        maps = {"previous": stack[:, -1:], "positive": disks[:, :1], "negative": disks[:, 1:]}
        prompts = torch.cat([maps[name] for name in self.network.prompt_channels], dim=1)
        weights = self.network.parameters() if isinstance(self.network, nn.Module) else ()
        device = next((w.device for w in weights), stack.device)
        with torch.inference_mode():
            logits = self.network(stack[:, :-1].to(device), prompts.to(device))["instances"].float().to(stack.device)
        self.network_calls += 1
        if self.flip:
            logits = 0.5 * (logits[:1] + logits[1:].flip(3))
        return torch.sigmoid(logits)


def _points(clicks: Sequence[PixelClick]) -> list[tuple[float, float, float]]:
    """Clicks as the network's list of points, positive ones first."""
    rows = [(click.positive, (float(click.row), float(click.column), float(click.order))) for click in clicks]
    return pack_points([row for positive, row in rows if positive], [row for positive, row in rows if not positive])


def pack_points(
    positive: Sequence[tuple[float, float, float]], negative: Sequence[tuple[float, float, float]]
) -> list[tuple[float, float, float]]:
    """One list of points for the network from the clicks of both kinds.

    Args:
        positive: (row, column, order) of the clicks on the object.
        negative: the same for clicks on the background.

    Returns:
        2N points, N = the larger number of clicks, at least 1: the positive ones, then the negative ones, each half
        filled up with (-1, -1, -1).
    """
    half = max(len(positive), len(negative), 1)
    return [
        *positive,
        *[UNUSED] * (half - len(positive)),
        *negative,
        *[UNUSED] * (half - len(negative)),
    ]


def draw_disks(points: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    """Disks around points.

    Args:
        points: (B, 2N, 3) rows of (row, column, order) in pixels, the first N positive, the last N negative; fractions
            count. A point whose larger coordinate is below 0 is unused; any other is drawn, also from outside.
        size: height and width in pixels.
        radius: disk radius in pixels, border included.

    Returns:
        (B, 2, H, W) of 0 and 1 in the type of `points` (float32 for integer points): positive, negative.

    Raises:
        InputError: the points do not have this shape.
    """
    if points.ndim != 3 or points.shape[1] % 2 or points.shape[2] < 2:
        raise InputError(
            f"points of shape {tuple(points.shape)}; expected (B, 2N, 3): N positive, then N negative rows of "
            "(row, column, order), unused rows filled with -1"
        )
    if not points.is_floating_point():
        points = points.float()
    batch, count = points.shape[0], points.shape[1] // 2
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)
    halves = points[..., :2].reshape(batch, 2, count, 2)
    used = halves.amax(dim=-1) >= 0
    disks = torch.zeros((batch, 2, *size), dtype=torch.bool, device=points.device)
    for index in range(count):  # one click at a time: memory does not grow with the number of clicks
        row, column = halves[:, :, index, 0, None], halves[:, :, index, 1, None]
        distance = (rows - row).square()[..., :, None] + (columns - column).square()[..., None, :]
        disks |= (distance <= radius**2) & used[:, :, index, None, None]
    return disks.to(points.dtype)
