from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.window import FeatureCache, WindowEncoder
from limnet.propagation.memory import similarity
from limnet.propagation.networks.tiny import (
    MEMORY_EVERY,
    PROMPTS_IN_MEMORY,
    RECENT_IN_MEMORY,
    TOP_K,
    Remembered,
    TinyPropagation,
    WindowState,
    histogram,
    likelihood,
    surroundings,
)
from limnet.propagation.propagator import together
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings
from tests.helpers.scenes import dice
from tests.helpers.small_xmem import SmallXMem
from tests.helpers.tiny_networks import disk, small_interaction, small_propagation

IMAGE_HALF, SLICE = 12e9, 12e9  # floating-point operations at 480 x 480
SLICE_IN_WINDOW = 1.2e9  # at 160 x 160, where it works


@pytest.fixture(scope="module")
def network() -> TinyPropagation:
    return small_propagation()


def images(count: int, height: int, width: int, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(2))


def propagated(network: TinyPropagation, image: Tensor, mask: Tensor, top_k: int | None = None) -> Tensor:
    """Logits of slice 1 from the mask of slice 0; image (2, C, H, W), mask (B, 1, H, W)."""
    count = len(mask)
    pixels = [i.expand(count, -1, -1, -1) for i in image[:, None]]
    first, second = (network.encode_image(p) for p in pixels)
    last = network.remember(first, mask)
    readout = network.read(second, [last], top_k)
    return network.segment(second, readout, [last], last, pixels[0], mask)


def test_colour() -> None:
    with torch.inference_mode():
        logits = propagated(small_propagation(3), images(2, 33, 47, 3), disk(33, 47, (15, 15), 8))
    assert logits.shape == (1, 1, 33, 47)
    assert bool(logits.isfinite().all())


def memory_of(network: TinyPropagation, count: int, size: int = 64) -> tuple[tuple[Tensor, ...], list[Remembered]]:
    pictures = images(count + 1, size, size)
    memory = [
        network.remember(network.encode_image(p[None]), disk(size, size, (20 + 3 * i, 30), 8 + i))
        for i, p in enumerate(pictures[:-1])
    ]
    return network.encode_image(pictures[-1:]), memory


@pytest.mark.parametrize("top_k", [1, 4, 30, None])
def test_gathering_the_best_rows_equals_masking_the_others(network: TinyPropagation, top_k: int | None) -> None:
    def rows(x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    with torch.inference_mode():
        features, memory = memory_of(network, 4)
        keys, shrinkage, values = (torch.cat([rows(m[i]) for m in memory], 1) for i in range(3))
        selection = torch.sigmoid(network.select(features[3]))
        scores = similarity(keys, shrinkage, rows(network.key(features[3])), rows(selection))
        floor = scores.topk(top_k or scores.shape[2]).values[..., -1:]
        dense = torch.softmax(scores.masked_fill(scores < floor, float("-inf")), 2) @ values
        result = rows(network.read(features, memory, top_k))
    torch.testing.assert_close(result[..., :-1], dense, rtol=0, atol=1e-5)
    torch.testing.assert_close(result[..., -1], (scores.amax(2) / 4).exp())


def test_untrained_network_copies_the_mask() -> None:
    torch.manual_seed(0)
    network = TinyPropagation(widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), embedding=8).eval()
    mask = disk(64, 64, (30, 30), 12)
    with torch.inference_mode():
        assert torch.equal(propagated(network, images(2, 64, 64), mask) > 0, mask > 0.5)


def test_gradients_reach_every_weight_from_the_first_step_on() -> None:
    """The zero-initialised ends of residual blocks wait one step; the memory's shrinkage must not be stuck at zero."""
    torch.manual_seed(0)
    options = {"widths": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "embedding": 8, "key_dim": 8, "value_dim": 16}
    network = TinyPropagation(**options)
    rate = torch.optim.SGD(network.parameters(), 0.05)
    for _ in range(3):
        rate.zero_grad()
        propagated(network, images(2, 64, 64), disk(64, 64, (30, 30), 12)).square().mean().backward()
        rate.step()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []


def test_every_kind_of_memory_matters(network: TinyPropagation) -> None:
    image, mask = images(2, 64, 64), disk(64, 64, (30, 30), 12)
    with torch.inference_mode():
        first, second = (network.encode_image(i[None]) for i in image)
        last = network.remember(first, mask)
        other = network.remember(first, disk(64, 64, (44, 20), 8))
        readout = network.read(second, [last])
        plain = network.segment(second, readout, [last], last, image[:1], mask)
        changed = [
            network.segment(second, network.read(second, [other]), [last], last, image[:1], mask),
            network.segment(second, readout, [other], last, image[:1], mask),
            network.segment(second, readout, [last], other, image[:1], mask),
            network.segment(second, readout, [last], last, 1 - image[:1], mask),
            network.segment(second, readout, [last], last, image[:1], 1 - mask),
        ]
    assert all(float((c - plain).abs().max()) > 1e-4 for c in changed)


def operations(size: int) -> tuple[int, int]:
    """Of the image half and of the mask half: one memory slice a step, and the fullest memory there is."""
    with FakeTensorMode(), torch.inference_mode():
        network = TinyPropagation().eval()
        image, mask = torch.rand(1, 1, size, size), torch.rand(1, 1, size, size)
        with FlopCounterMode(display=False) as image_half:
            features = network.encode_image(image)
        with FlopCounterMode(display=False) as mask_half:
            last = network.remember(features, mask)
            readout = network.read(features, [last] * (PROMPTS_IN_MEMORY + RECENT_IN_MEMORY), TOP_K)
            network.segment(features, readout, [last], last, image, mask)
    return image_half.get_total_flops(), mask_half.get_total_flops()


def test_default_network_keeps_its_budget() -> None:
    image_half, mask_half = operations(480)
    assert image_half <= IMAGE_HALF
    assert 3e9 < mask_half <= SLICE
    assert 0.3e9 < operations(160)[1] <= SLICE_IN_WINDOW


def test_surroundings_are_a_ring() -> None:
    mask = disk(64, 64, (32, 32), 10)
    ring = surroundings(mask, 16)
    assert not (ring * mask).any()
    assert bool(ring[0, 0, 32, 44])
    assert not bool(ring[0, 0, 32, 62])
    assert not surroundings(torch.zeros(1, 1, 16, 16), 16).any()


def test_histogram_counts_weighted_pixels() -> None:
    image, weights = images(2, 16, 16), images(2, 16, 16).flip(-1)
    counts = histogram(image, weights)
    assert counts.shape == (2, 32)
    torch.testing.assert_close(counts.sum(1), weights.flatten(1).sum(1))
    index = np.rint(image[1].numpy().ravel() * 31).astype(int)
    expected = np.bincount(index, weights[1].numpy().ravel(), 32)
    np.testing.assert_allclose(counts[1].numpy(), expected, rtol=1e-4)


def test_likelihood_tells_object_from_surroundings() -> None:
    image = torch.full((1, 1, 32, 32), 0.2)
    mask = disk(32, 32, (16, 16), 6)
    image[mask > 0] = 0.8
    histograms = torch.stack([histogram(image, mask), histogram(image, surroundings(mask, 8))], 1)
    result = likelihood(image, histograms)
    assert float(result[mask > 0].min()) > 0.5
    assert float(result[mask == 0].max()) < -0.5
    assert not likelihood(image, torch.zeros(1, 2, 32)).any()


# states of one pass


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


def make(view: SliceView, prompts: list[tuple[int, np.ndarray]], **options: Any) -> tuple[WindowState, Follower]:
    torch.manual_seed(0)
    network = Follower().eval()
    encoder = WindowEncoder(network, "cpu", "fp32", FeatureCache())
    state = WindowState(network, encoder, view, prompts, **options)
    return state, network


def step(state: Any, index: int) -> np.ndarray:
    """One step by itself."""
    answer = state.step(index)
    return answer if isinstance(answer, np.ndarray) else together([answer], state.encoder)[0]


def test_the_window_follows_the_object() -> None:
    view, masks = moving(14, 8)
    state, _ = make(view, [(0, masks[0].astype(np.float32))])
    state.place(0, masks[0].astype(np.float32))
    first = state.window
    for index in range(1, 14):
        result = step(state, index)
        assert result.shape == (200, 200)
        assert result.dtype == np.float32
        assert dice(result > 0.5, masks[index]) > 0.85
    assert first is not None
    assert state.window is not None
    assert state.window.top > first.top
    assert state.window.height < 100


def test_a_resting_object_keeps_its_window() -> None:
    view, masks = moving(8, 0)
    state, network = make(view, [(0, masks[0].astype(np.float32))])
    state.place(0, masks[0].astype(np.float32))
    first = state.window
    for index in range(1, 8):
        step(state, index)
    assert state.window == first
    assert state.encoder.cache.misses == 8  # one window a slice
    assert len(network.remembered) == 1 + 7 // MEMORY_EVERY  # the prompt, and every third slice once a step needs it


def test_a_growing_object_gets_a_larger_window() -> None:
    shape = (200, 200)
    rows, columns = np.ogrid[:200, :200]
    masks = np.stack([(rows - 100) ** 2 + (columns - 100) ** 2 <= (6 + 6 * i) ** 2 for i in range(12)])
    view = SliceView(Volume.from_array(np.where(masks, 200, 0).astype(np.int16)), 0, (0, 200))
    state, _ = make(view, [(0, masks[0].astype(np.float32))])
    state.place(0, masks[0].astype(np.float32))
    for index in range(1, 12):
        result = step(state, index)
    assert dice(result > 0.5, masks[-1]) > 0.9
    assert state.window is not None
    assert state.window.height > 0.7 * shape[0]


def test_whole_slices_on_demand() -> None:
    view, masks = moving(3, 0)
    state, _ = make(view, [(0, masks[0].astype(np.float32))], follow=False)
    state.place(0, masks[0].astype(np.float32))
    assert state.window is not None
    assert state.window.bounds == (0, 0, 200, 200)
    assert dice(step(state, 1) > 0.5, masks[1]) > 0.8
    assert state.window.bounds == (0, 0, 200, 200)


def test_memory_keeps_the_prompts_and_bounds_the_rest() -> None:
    depth = MEMORY_EVERY * (RECENT_IN_MEMORY + 3) + 2
    view, masks = moving(depth, 0)
    prompts = [(i, masks[0].astype(np.float32) * (i != 1)) for i in range(PROMPTS_IN_MEMORY + 3)]
    state, network = make(view, prompts)
    assert len(state.permanent) == PROMPTS_IN_MEMORY  # an empty prompt takes nobody's place
    state.place(0, prompts[0][1])
    for index in range(1, depth):
        step(state, index)
    sizes = [size for size, _ in network.memory_sizes]
    held = PROMPTS_IN_MEMORY + 1  # and the empty slice, as an example of what the object is not
    assert len(state.refused) == 1
    assert sizes[: MEMORY_EVERY + 1] == [held] * MEMORY_EVERY + [held + 1]
    assert max(sizes) == sizes[-1] == held + RECENT_IN_MEMORY
    assert {k for _, k in network.memory_sizes} == {30}


def test_nothing_to_carry_gives_nothing() -> None:
    view, _ = moving(3, 0)
    empty = np.zeros(view.shape, np.float32)
    state, network = make(view, [(0, empty)])
    state.place(0, empty)
    assert not step(state, 1).any()
    assert network.memory_sizes == []


def test_the_object_may_come_back_after_an_empty_slice() -> None:
    view, masks = moving(5, 0)
    array = np.array(view.volume.array)
    array[2] = 0
    gone = SliceView(Volume.from_array(array, spacing=(2, 1, 1)), 0, (0, 200))
    state, _ = make(gone, [(0, masks[0].astype(np.float32))])
    state.place(0, masks[0].astype(np.float32))
    found = [bool((step(state, i) > 0.5).any()) for i in range(1, 5)]
    assert found == [True, False, True, True]


class Halves:
    """Stands in for XMem's stream: keeps what it is shown and answers with the left half."""

    def __init__(self, network: SmallXMem) -> None:
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
    own = Settings(short_side=side, memory_min_frames=3, memory_max_frames=6)
    state: Any = network.start(encoder, view, [(0, mask), (1, mask)], own)
    state.place(0, mask)  # with the real network: sizes fit, the second prompt is remembered, too
    assert len(state.stream.bank.tokens) == 2 * state.stream.sensory[0, 0, 0].numel()
    assert (state.stream.bank.config.min_frames, state.stream.bank.config.max_frames) == (3, 6)
    state.stream = halves = Halves(network)
    state.place(0, mask)
    result = step(state, 1)
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


class Toy(torch.nn.Module):
    """A third kind of network, as docs/adding-a-network.md asks for it: what is as bright as the prompt's mean."""

    def start(self, encoder: Any, view: SliceView, prompts: Any, settings: Settings) -> Toy:
        self.view = view
        return self

    def place(self, index: int, mask: np.ndarray) -> None:
        self.level = self.view.raw(index)[mask > 0.5].mean() - 50

    def step(self, index: int, ahead: Any = ()) -> np.ndarray:
        return (self.view.raw(index) > self.level).astype(np.float32)


def test_a_third_network_needs_no_change_of_ours() -> None:
    view, masks = moving(9, 3)
    case = InteractiveSegmenter(small_interaction(), Toy()).open(view.volume)
    mask = case.set_mask(masks[4], index=4)
    assert np.array_equal(mask, masks)
