"""Cached image halves: every window of every slice is encoded once, for all clicks, rounds, directions and objects."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from limnet.image.slice_view import SliceView
from limnet.interaction.window import Window

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_State = tuple[tuple[object, ...], ...]
_known: WeakKeyDictionary[nn.Module, tuple[_State, str]] = WeakKeyDictionary()


def fingerprint(module: nn.Module) -> str:
    """Short hash of names and values of a module's weights; equal modules have equal ones.

    Hashing takes a tenth of a second for 20 million weights, so the result is kept as long as the module lives. Whether
    the weights are still the same is told by where they lie, by their version (writes that autograd sees: training,
    loading) and by a sum over their bits (writes it does not see: through `.data`, NumPy or running statistics).

    Args:
        module: any network, on any device.

    Returns:
        16 hexadecimal digits.
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


Features = tuple[Tensor, ...]
_cast: WeakKeyDictionary[nn.Module, tuple[str, nn.Module]] = WeakKeyDictionary()  # with the weights they were made of


class FeatureCache:
    """Least-recently-used store of image features with a bound on its memory, for any number of threads.

    Args:
        max_bytes: upper limit; 0 keeps nothing.
    """

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
    """Runs a network's image half on windows of a view, through the cache.

    Args:
        network: has `encode_image` and `image_channels`.
        device: where to compute.
        precision: "fp32", "bf16" or "auto".
        cache: shared by all networks of a case.

    Attributes:
        network: the one at work: a copy with bfloat16 convolutions where it computes in bfloat16.
    """

    def __init__(self, network: nn.Module, device: torch.device | str, precision: str, cache: FeatureCache):
        self.cache = cache
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
