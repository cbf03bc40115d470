from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.features import FeatureCache, WindowEncoder
from limnet.propagation.carrier import (
    MEMORY_EVERY,
    PROMPTS_IN_MEMORY,
    RECENT_IN_MEMORY,
    WindowCarrier,
    make_carrier,
    nearest_prompts,
)
from limnet.propagation.networks.tiny import Remembered, TinyPropagation
from limnet.propagation.networks.xmem import XMem
from limnet.propagation.steps import together
from limnet.propagation.stream_carrier import StreamCarrier
from limnet.settings import Settings
from tests.helpers.scenes import dice
from tests.helpers.small_xmem import SmallXMem


class Follower(TinyPropagation):
    """Takes everything bright for the object; records what it is asked."""

    def __init__(self) -> None:
        sizes = {"embedding": 8, "key_dim": 8, "value_dim": 16, "window_size": 64}
        super().__init__(widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), **sizes)
        self.remembered: list[Tensor] = []
        self.memory_sizes: list[tuple[int, int]] = []

    def remember(self, features: tuple[Tensor, ...], mask: Tensor) -> Remembered:
        self.remembered.append(mask)
        return super().remember(features, mask)

    def read(self, features: tuple[Tensor, ...], memory: list[Remembered], top_k: int | None = None) -> Tensor:
        self.memory_sizes.append((len(memory), int(top_k or 0)))
        return super().read(features, memory, top_k)

    def segment(self, features: tuple[Tensor, ...], *others: Any) -> Tensor:
        last_image, last_mask = others[-2:]
        assert last_image.shape[-2:] == last_mask.shape[-2:] == (64, 64)
        return (features[0] - 0.5) * 20


def moving(depth: int, step: float, shape: tuple[int, int] = (200, 200), radius: float = 12) -> tuple[SliceView, Any]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    masks = np.stack([(rows - 40 - step * i) ** 2 + (columns - 60) ** 2 <= radius**2 for i in range(depth)])
    array = np.where(masks, 200, 0).astype(np.int16)
    return SliceView(Volume.from_array(array, spacing=(2, 1, 1)), 0, (0, 200)), masks


def make(view: SliceView, prompts: list[tuple[int, np.ndarray]], **options: Any) -> tuple[WindowCarrier, Follower]:
    torch.manual_seed(0)
    network = Follower().eval()
    encoder = WindowEncoder(network, "cpu", "fp32", FeatureCache())
    carrier = WindowCarrier(network, encoder, view, prompts, 64, **options)
    return carrier, network


def step(carrier: Any, index: int) -> np.ndarray:
    """One step by itself."""
    [result] = together([carrier.step(index)], getattr(carrier, "network", None), carrier.encoder)
    return result


def test_the_window_follows_the_object() -> None:
    view, masks = moving(14, 8)
    carrier, _ = make(view, [(0, masks[0].astype(np.float32))])
    carrier.place(0, masks[0].astype(np.float32))
    first = carrier.window
    for index in range(1, 14):
        result = step(carrier, index)
        assert result.shape == (200, 200)
        assert result.dtype == np.float32
        assert dice(result > 0.5, masks[index]) > 0.85
    assert first is not None
    assert carrier.window is not None
    assert carrier.window.top > first.top
    assert carrier.window.height < 100


def test_a_resting_object_keeps_its_window() -> None:
    view, masks = moving(8, 0)
    carrier, network = make(view, [(0, masks[0].astype(np.float32))])
    carrier.place(0, masks[0].astype(np.float32))
    first = carrier.window
    for index in range(1, 8):
        step(carrier, index)
    assert carrier.window == first
    assert carrier.encoder.cache.misses == 8  # one window a slice
    assert len(network.remembered) == 1 + 7 // MEMORY_EVERY  # the prompt, and every third slice once a step needs it


def test_a_growing_object_gets_a_larger_window() -> None:
    shape = (200, 200)
    rows, columns = np.ogrid[:200, :200]
    masks = np.stack([(rows - 100) ** 2 + (columns - 100) ** 2 <= (6 + 6 * i) ** 2 for i in range(12)])
    view = SliceView(Volume.from_array(np.where(masks, 200, 0).astype(np.int16)), 0, (0, 200))
    carrier, _ = make(view, [(0, masks[0].astype(np.float32))])
    carrier.place(0, masks[0].astype(np.float32))
    for index in range(1, 12):
        result = step(carrier, index)
    assert dice(result > 0.5, masks[-1]) > 0.9
    assert carrier.window is not None
    assert carrier.window.height > 0.7 * shape[0]


def test_whole_slices_on_demand() -> None:
    view, masks = moving(3, 0)
    carrier, _ = make(view, [(0, masks[0].astype(np.float32))], follow=False)
    carrier.place(0, masks[0].astype(np.float32))
    assert carrier.window is not None
    assert carrier.window.bounds == (0, 0, 200, 200)
    assert dice(step(carrier, 1) > 0.5, masks[1]) > 0.8
    assert carrier.window.bounds == (0, 0, 200, 200)


def test_memory_keeps_the_prompts_and_bounds_the_rest() -> None:
    depth = MEMORY_EVERY * (RECENT_IN_MEMORY + 3) + 2
    view, masks = moving(depth, 0)
    prompts = [(i, masks[0].astype(np.float32) * (i != 1)) for i in range(PROMPTS_IN_MEMORY + 3)]
    carrier, network = make(view, prompts)
    assert len(carrier.permanent) == PROMPTS_IN_MEMORY  # an empty prompt takes nobody's place
    carrier.place(0, prompts[0][1])
    for index in range(1, depth):
        step(carrier, index)
    sizes = [size for size, _ in network.memory_sizes]
    held = PROMPTS_IN_MEMORY + 1  # and the empty slice, as an example of what the object is not
    assert len(carrier.refused) == 1
    assert sizes[: MEMORY_EVERY + 1] == [held] * MEMORY_EVERY + [held + 1]
    assert max(sizes) == sizes[-1] == held + RECENT_IN_MEMORY
    assert {k for _, k in network.memory_sizes} == {30}


def test_nothing_to_carry_gives_nothing() -> None:
    view, _ = moving(3, 0)
    empty = np.zeros(view.shape, np.float32)
    carrier, network = make(view, [(0, empty)])
    carrier.place(0, empty)
    assert not step(carrier, 1).any()
    assert network.memory_sizes == []


def test_the_object_may_come_back_after_an_empty_slice() -> None:
    view, masks = moving(5, 0)
    array = np.array(view.volume.array)
    array[2] = 0
    gone = SliceView(Volume.from_array(array, spacing=(2, 1, 1)), 0, (0, 200))
    carrier, _ = make(gone, [(0, masks[0].astype(np.float32))])
    carrier.place(0, masks[0].astype(np.float32))
    found = [bool((step(carrier, i) > 0.5).any()) for i in range(1, 5)]
    assert found == [True, False, True, True]


def test_nearest_prompts() -> None:
    masks = {i: np.zeros((2, 2), np.float32) for i in (9, 1, 5, 4, 6)}
    assert [i for i, _ in nearest_prompts(masks, 5)] == [5, 4, 6, 1, 9]


class Halves:
    """Stands in for XMem's stream: keeps what it is shown and answers with the left half."""

    def __init__(self, network: XMem) -> None:
        self.network = network
        self.seen: list[tuple[torch.Tensor, torch.Tensor | None]] = []

    def step(self, image: torch.Tensor, mask: torch.Tensor | None = None, features: Any = None) -> torch.Tensor:
        self.seen.append((image, mask))
        found = torch.zeros(2, *image.shape[-2:])
        found[1, :, : image.shape[-1] // 2] = 1
        return found


@pytest.mark.parametrize(
    ("shape", "side", "seen"), [((48, 64), 96, (96, 128)), ((64, 50), 25, (32, 25)), ((48, 64), 0, (48, 64))]
)
def test_xmem_sees_slices_with_the_short_side_of_its_evaluation(
    shape: tuple[int, int], side: int, seen: tuple[int, int]
) -> None:
    array = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    view = SliceView(Volume.from_array(array), 0, (0, 1))
    mask = np.zeros(shape, np.float32)
    mask[4:20, 5:31] = 1
    network = SmallXMem().eval()
    encoder = WindowEncoder(network, "cpu", "fp32", FeatureCache())
    carrier = make_carrier(network, encoder, view, [(0, mask), (1, mask)], Settings(short_side=side))
    assert isinstance(carrier, StreamCarrier)
    carrier.place(0, mask)  # with the real network: sizes fit, the second prompt is remembered, too
    assert carrier.stream.bank.objects
    carrier.stream = halves = Halves(network)  # type: ignore[assignment]
    carrier.place(0, mask)
    result = step(carrier, 1)
    image, given = halves.seen[0]
    assert given is not None
    assert tuple(image.shape[-2:]) == tuple(given.shape[-2:]) == seen
    assert set(given.unique().tolist()) == {0.0, 1.0}
    rows, columns = (np.arange(n) * full // n for n, full in zip(seen, shape, strict=True))
    assert np.array_equal(given[0].numpy(), mask[np.ix_(rows, columns)])
    centres = [(np.arange(n) + 0.5) * full / n - 0.5 for n, full in zip(seen, shape, strict=True)]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"))
    expected = ndimage.map_coordinates(array[0], grid, order=1, mode="nearest")
    assert np.abs(image[0].numpy() - expected).max() < 1e-5, "bilinear between pixel centres, no smoothing"
    assert result.shape == shape
    assert result.dtype == np.float32
    assert result[:, : shape[1] // 2 - 2].min() == 1
    assert result[:, shape[1] // 2 + 2 :].max() == 0


def test_the_carrier_for_a_network() -> None:
    view, masks = moving(3, 0)
    prompts = [(0, masks[0].astype(np.float32))]

    def build(network: torch.nn.Module, settings: object = None) -> object:
        return make_carrier(network, WindowEncoder(network, "cpu", "fp32", FeatureCache()), view, prompts, settings)

    tiny = build(Follower().eval(), SimpleNamespace(follow_window=False))
    assert isinstance(tiny, WindowCarrier)
    assert tiny.size == 64
    assert not tiny.follow
    streams = [build(XMem(8, 16, 8).eval(), s) for s in (None, Settings(memory_min_frames=3, memory_max_frames=6))]
    assert all(isinstance(stream, StreamCarrier) for stream in streams)
    limits = [stream.stream.bank.config for stream in streams]  # type: ignore[attr-defined]
    assert [(c.min_frames, c.max_frames) for c in limits] == [(5, 10), (3, 6)]
    with pytest.raises(InputError, match="Linear"):
        build(torch.nn.Linear(2, 2))
