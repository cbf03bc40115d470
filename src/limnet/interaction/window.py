"""Windows: the square part of a slice that a network looks at, sized to the object and following it, and its features.

Sides and corners are snapped to a coarse grid, so that small changes of the mask reuse cached image features: every
window of every slice is encoded once, for all clicks, rounds, directions and objects.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from limnet.image.slice_view import SliceView

SHARE = 0.38  # the object's larger side as a share of the window
SMALLEST = 20.0  # a window shows at least this many pixels of the finer in-plane axis
_STEP = 1.25  # ratio of neighbouring window sides
_MARGIN = 16  # clicks closer to a window's border than side / 16 are answered worse (limnet bench border)
_GRID = 8  # corners lie on multiples of side / 8
_WIDEST = 8  # no window has more pixels than this many slices beside each other, however unequal the spacing

Features = tuple[Tensor, ...]


@dataclass(frozen=True)
class Window:
    """A square (in millimetres) part of a slice, resampled to `size` x `size` network pixels.

    First row and column, height and width are in slice pixels; the window may reach beyond the slice.
    """

    top: int
    left: int
    height: int
    width: int
    size: int

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """(top, left, height, width)."""
        return self.top, self.left, self.height, self.width

    def holds(self, box: tuple[int, int, int, int], margin: float = 0.0) -> bool:
        """Whether a pixel box (row0, row1, column0, column1; ends excluded) lies inside, `margin` in window sides."""
        down, right = margin * self.height, margin * self.width
        return (
            box[0] >= self.top + down
            and box[1] <= self.top + self.height - down
            and box[2] >= self.left + right
            and box[3] <= self.left + self.width - right
        )

    def moved_around(self, box: tuple[int, int, int, int]) -> Window:
        """The window moved until a pixel box lies 1/16 of a side inside, over the border of the slice if need be."""
        corner = []
        for low, extent, first, last in zip(self.bounds[:2], self.bounds[2:], box[::2], box[1::2], strict=True):
            margin = extent // _MARGIN
            fits = last - first + 2 * margin <= extent
            corner.append(max(min(low, first - margin), last + margin - extent) if fits else low)
        return replace(self, top=corner[0], left=corner[1])

    def seen(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], Window]:
        """Rows and columns of a slice (H, W) that the window shows, and the window as it lies on that part alone."""
        rows = slice(max(self.top, 0), min(self.top + self.height, shape[0]))
        columns = slice(max(self.left, 0), min(self.left + self.width, shape[1]))
        return (rows, columns), replace(self, top=self.top - rows.start, left=self.left - columns.start)

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) slice coordinates (y, x) to network pixels; pixel centres are integers in both, areas aligned."""
        scale = np.array([self.size / self.height, self.size / self.width])
        return np.asarray((points - (self.top, self.left) + 0.5) * scale - 0.5)

    def crop(self, array: NDArray[np.float32], edge: bool = True) -> Tensor:
        """Cut out of a slice ((C, H, W) or (H, W)) and resample to (1, C, size, size).

        Outside the slice its border is repeated (`edge`, images) or there are zeros (masks).
        """
        (rows, columns), _ = self.seen((array.shape[-2], array.shape[-1]))
        part = torch.from_numpy(np.array(array[..., rows, columns], np.float32))
        part = part[None] if part.ndim == 3 else part[None, None]
        right, bottom = self.left + self.width - columns.stop, self.top + self.height - rows.stop
        pads = (columns.start - self.left, right, rows.start - self.top, bottom)
        if any(pads):
            part = functional.pad(part, pads, mode="replicate") if edge else functional.pad(part, pads)
        return functional.interpolate(
            part, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )

    def paste(self, logits: Tensor, onto: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (1, 1, size, size) as probabilities in a copy of a slice (H, W), which stays outside the window."""
        full = functional.interpolate(logits.float(), (self.height, self.width), mode="bilinear", align_corners=False)
        values = torch.sigmoid(full)[0, 0].cpu().numpy()
        (rows, columns), _ = self.seen((onto.shape[0], onto.shape[1]))
        result, top, left = onto.copy(), self.top, self.left
        result[rows, columns] = values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return result


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Pixel box (row0, row1, column0, column1; ends excluded) of a mask (H, W), None when it is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def join(*boxes: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
    """Smallest box around boxes, None ones left out."""
    found = [b for b in boxes if b is not None]
    if not found:
        return None
    low, high = np.min(found, 0), np.max(found, 0)
    return int(low[0]), int(high[1]), int(low[2]), int(high[3])


def window_around(
    box: tuple[int, int, int, int],
    shape: tuple[int, int],
    spacing: Sequence[float],
    size: int,
    share: float = SHARE,
) -> Window:
    """Snapped window in which a box (ends excluded) takes about `share` of the side, kept on the slice where it fits.

    It never shows less than `SMALLEST` pixels or more than the slice. `spacing` in millimetres per pixel.
    """
    extent = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1])
    return window_of_side(extent / share, ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2), shape, spacing, size)


def window_of_side(
    side: float, centre: tuple[float, float], shape: tuple[int, int], spacing: Sequence[float], size: int
) -> Window:
    """Snapped window of about `side` millimetres around `centre` (row, column), kept on the slice where it fits."""
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    smallest = min(SMALLEST * min(spacing), longest)
    steps = max(0, round(math.log(max(longest / max(side, smallest), 1.0)) / math.log(_STEP)))
    side = max(longest / _STEP**steps, smallest)
    corner, extent = [], []
    for axis in (0, 1):
        pixels = max(4, round(min(side / spacing[axis], _WIDEST * max(shape))))
        unit = max(1, pixels // _GRID)
        low = round((centre[axis] - pixels / 2) / unit) * unit
        low = (shape[axis] - pixels) // 2 if pixels >= shape[axis] else min(max(low, 0), shape[axis] - pixels)
        corner.append(int(low))
        extent.append(int(pixels))
    return Window(corner[0], corner[1], extent[0], extent[1], size)


# cached features


_cast: WeakKeyDictionary[nn.Module, tuple[str, nn.Module]] = WeakKeyDictionary()  # with the weights they were made of


class FeatureCache:
    """Least-recently-used store of image features in at most `max_bytes`, for any number of threads."""

    def __init__(self, max_bytes: int = 1 << 30):
        self.max_bytes, self.bytes, self.hits, self.misses = max_bytes, 0, 0, 0
        self._items: OrderedDict[Hashable, Features] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Features]) -> Features:
        """The features under `key`, computed at the first call."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self.hits += 1
                self._items.move_to_end(key)
                return found
            self.misses += 1
        features = compute()
        self.put(key, features)
        return features

    def put(self, key: Hashable, features: Features) -> None:
        """Keep features that are not there yet, unless they alone are too large."""
        size = _size(features)
        with self._lock:
            if size <= self.max_bytes and key not in self._items:
                self._items[key] = features
                self.bytes += size
                while self.bytes > self.max_bytes:
                    self.bytes -= _size(self._items.popitem(last=False)[1])

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self.bytes = 0


def _size(features: Features) -> int:
    return sum(t.numel() * t.element_size() for t in features)


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: "bf16" always, "fp32" never, "auto" where the processor is made for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def with_bf16_convolutions(network: nn.Module) -> nn.Module:
    """A copy, made once, whose convolutions have the bfloat16 weights that autocast would make of them at every call.

    Results are the same, bit for bit; without the casts the image half takes 3/4 of the time, a prompt half 2/3.
    """
    weights = fingerprint(network)
    known = _cast.get(network)
    if known is None or known[0] != weights:
        known = _cast[network] = (weights, copy.deepcopy(network))
        for part in known[1].modules():
            if isinstance(part, nn.Conv2d):
                part.to(torch.bfloat16)
    return known[1]


def window_size(network: nn.Module) -> int:
    """Side in pixels of the windows a network is shown: its own `window_size`, else 160."""
    return int(getattr(network, "window_size", 160))


def window_pixels(view: SliceView, index: int, window: Window, channels: int) -> Tensor:
    """A window of slice `index`, (1, channels, size, size) in [0, 1]; grey slices are repeated for 3 channels."""
    part, moved = window.seen(view.shape)
    pixels = moved.crop(view.gray(index, part) if channels == 1 else view.image(index, part))
    return pixels if pixels.shape[1] == channels else pixels.expand(1, channels, -1, -1)


class WindowEncoder:
    """Runs a network's image half on windows of a view, through the cache (a private one by default).

    The network has `encode_image` and `image_channels`; precision is "fp32", "bf16" or "auto".

    Attributes:
        source: the network as it was given.
        network: the one at work: a copy with bfloat16 convolutions where it computes in bfloat16.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        cache: FeatureCache | None = None,
    ):
        self.source, self.cache = network, FeatureCache() if cache is None else cache
        self.device = torch.device(device)
        self.bf16 = use_bf16(precision, self.device)
        encoder = getattr(network, "encoder", None)
        self.key = fingerprint(encoder if isinstance(encoder, nn.Module) else network)
        self.network = with_bf16_convolutions(network) if self.bf16 else network

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inference mode with the chosen precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def image(self, view: SliceView, index: int, *windows: Window) -> Tensor:
        """Pixels of n windows of one size, (n, image_channels, size, size) in [0, 1]."""
        wanted = int(getattr(self.network, "image_channels", 3))
        return torch.cat([window_pixels(view, index, window, wanted) for window in windows]).to(self.device)

    def features(self, view: SliceView, index: int, *windows: Window, pixels: Tensor | None = None) -> Features:
        """Image features of n windows of slice `index` (`pixels`, if known), computed as one batch and kept as one.

        Windows alone and in a batch differ in the last bits: they are not taken for each other, so that features do not
        depend on what was computed before.
        """
        key = (self.key, self.bf16, view.axis, view.window, index, windows)

        def compute() -> Features:
            with self.running():
                image = self.image(view, index, *windows) if pixels is None else pixels
                return tuple(self.network.encode_image(image))  # type: ignore[operator]

        return self.cache.get(key, compute)

    def in_turn(self, view: SliceView, index: int, window: Window, ahead: Sequence[int] = ()) -> Features:
        """Image features of one window of slice `index`, and in the same batch those of the slices `ahead`, seen next.

        Batches have two images at least: from there on the last bits no longer depend on how many there are, so that
        features do not depend on what was known before.
        """

        def key(number: int) -> Hashable:
            return self.key, self.bf16, view.axis, view.window, number, window

        def compute() -> Features:
            wanted = [index, *(i for i in ahead if self.cache.max_bytes and key(i) not in self.cache)]
            images = [self.image(view, i, window) for i in wanted]
            with self.running():
                found = self.network.encode_image(torch.cat(images if len(images) > 1 else images * 2))  # type: ignore[operator]
            own, *others = list(zip(*(part.split(1) for part in found), strict=True))[: len(wanted)]
            for i, features in zip(wanted[1:], others, strict=True):
                self.cache.put(key(i), features)
            return own

        return self.cache.get(key(index), compute)


# fingerprints of weights


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_State = tuple[tuple[object, ...], ...]
_known: WeakKeyDictionary[nn.Module, tuple[_State, str]] = WeakKeyDictionary()


def fingerprint(module: nn.Module) -> str:
    """Short hash (16 hexadecimal digits) of names and values of a module's weights; equal modules have equal ones.

    Hashing takes a tenth of a second for 20 million weights, so the result is kept as long as the module lives. Whether
    the weights are still the same is told by where they lie, by their version (writes that autograd sees: training,
    loading) and by a sum over their bits (writes it does not see: through `.data`, NumPy or running statistics).
    """
    weights = sorted(module.state_dict().items())
    state = _state(weights)
    known = _known.get(module)
    if known is None or known[0] != state:
        known = _known[module] = (state, _hash(weights))
    return known[1]


def _state(weights: list[tuple[str, Tensor]]) -> _State:
    """What changes with the weights and is cheap to get."""
    sums = [_sum(value) for _, value in weights]
    numbers = torch.stack([s.to(sums[0].device, torch.int64) for s in sums]).tolist() if sums else []
    return tuple(
        (name, value.data_ptr(), -1 if value.is_inference() else value._version, value.dtype, value.shape, number)
        for (name, value), number in zip(weights, numbers, strict=True)
    )


def _sum(value: Tensor) -> Tensor:
    """Sum of the bits as whole numbers; it wraps around, which is twice as fast as adding up in 64 bits."""
    real = torch.view_as_real(value) if value.is_complex() else value
    bits = real.view(_INTEGERS[real.element_size()])
    return bits.sum(dtype=bits.dtype)


def _hash(weights: list[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, value in weights:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
