from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from limnet import InteractiveSegmenter
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction import window as place
from limnet.interaction.window import (
    SMALLEST,
    FeatureCache,
    Window,
    WindowEncoder,
    fingerprint,
    join,
    mask_box,
    use_bf16,
    window_around,
    window_of_side,
)
from tests.helpers.small_segmenter import blob, small_segmenter
from tests.helpers.tiny_networks import small_interaction, small_propagation

Box = tuple[int, int, int, int]


@st.composite
def scenes(draw: st.DrawFn, smallest: int = 8) -> tuple[Box, tuple[int, int], tuple[float, float]]:
    """A box on a slice with its spacing."""
    shape = draw(st.integers(smallest, 600)), draw(st.integers(smallest, 600))
    spacing = draw(st.sampled_from([(1.0, 1.0), (0.5, 0.5), (5.0, 0.8), (0.7, 3.0), (0.01, 0.012)]))
    box = []
    for length in shape:
        low = draw(st.integers(0, length - 1))
        box += [low, draw(st.integers(low + 1, length))]
    return (box[0], box[1], box[2], box[3]), shape, spacing


@settings(max_examples=200, deadline=None)
@given(scenes(), st.sampled_from([0.38, 0.6]))
def test_window_contains_the_box_is_square_and_stays_on_the_slice(
    scene: tuple[Box, tuple[int, int], tuple[float, float]], share: float
) -> None:
    box, shape, spacing = scene
    window = window_around(box, shape, spacing, 64, share)
    assert window.holds(box)
    mm = window.height * spacing[0], window.width * spacing[1]
    assert abs(mm[0] - mm[1]) <= max(spacing) or 4 in (window.height, window.width)  # whole pixels, at least 4
    assert max(mm) <= max(shape[0] * spacing[0], shape[1] * spacing[1]) + 4 * max(spacing)
    for low, extent, length in zip(window.bounds[:2], window.bounds[2:], shape, strict=True):
        if extent <= length:
            assert 0 <= low <= length - extent
        else:  # the slice is shown whole, in the middle
            assert abs((low + extent / 2) - length / 2) <= 1


@settings(max_examples=100, deadline=None)
@given(scenes(smallest=128))
def test_object_takes_its_share_of_the_window(scene: tuple[Box, tuple[int, int], tuple[float, float]]) -> None:
    box, shape, spacing = scene
    extent = max((box[1] - box[0]) * spacing[0], (box[3] - box[2]) * spacing[1])
    longest = max(shape[0] * spacing[0], shape[1] * spacing[1])
    assume(extent / 0.38 < longest and extent / 0.38 > SMALLEST * min(spacing))
    assume(extent > 8 * max(spacing))  # whole pixels make the share of smaller ones coarse
    window = window_around(box, shape, spacing, 64)
    share = max((box[1] - box[0]) / window.height, (box[3] - box[2]) / window.width)
    assert 0.3 < share < 0.48


def test_moved_around_keeps_a_box_off_the_border_of_the_window() -> None:
    window = Window(0, 20, 64, 64, 160)
    assert window.moved_around((10, 30, 40, 60)) == window  # 4 pixels inside are enough
    assert window.moved_around((0, 1, 40, 41)).bounds == (-4, 20, 64, 64)
    assert window.moved_around((62, 64, 82, 84)).bounds == (4, 24, 64, 64)
    assert window.moved_around((0, 60, 40, 41)) == window  # too large a box: as it was
    assert window.moved_around((0, 1, 0, 84)).bounds == (-4, 20, 64, 64)


def test_whole_slices() -> None:
    assert window_around((0, 100, 0, 100), (100, 100), (1, 1), 64).bounds == (0, 0, 100, 100)
    assert window_around((3, 4, 3, 4), (8, 8), (1, 1), 64).bounds == (0, 0, 8, 8)  # smaller than the smallest window
    assert window_around((0, 50, 0, 100), (50, 100), (1, 1), 64).bounds == (-25, 0, 100, 100)
    assert window_around((0, 50, 0, 100), (50, 100), (1, 1), 64, share=1.0).bounds == (-25, 0, 100, 100)


def test_small_changes_keep_the_window() -> None:
    """An object that drifts pixel by pixel and changes its size by one changes the window rarely."""
    windows = []
    for step in range(60):
        for grown in (0, 1):
            box = (100 + step, 140 + step + grown, 200, 240)
            windows.append(window_around(box, (512, 512), (0.8, 0.8), 160))
    assert len(set(windows)) <= 8
    assert len({(w.height, w.width) for w in windows}) == 1


def test_sides_are_snapped() -> None:
    sides = {window_of_side(s, (200, 200), (400, 400), (1, 1), 64).height for s in np.linspace(30, 400, 150)}
    assert len(sides) <= 14


def soft_disk(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = np.sqrt((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2)
    return (1 / (1 + np.exp((distance - radius) / 2))).astype(np.float32)


@pytest.mark.parametrize(
    "window", [Window(8, 20, 64, 64, 96), Window(-10, -20, 120, 130, 128), Window(0, 0, 80, 100, 64)]
)
def test_crop_and_paste_are_inverse_for_smooth_masks(window: Window) -> None:
    probability = soft_disk((80, 100), (38, 50), 14)
    pasted = window.paste(torch.logit(window.crop(probability, edge=False), 1e-6), np.zeros((80, 100), np.float32))
    assert pasted.dtype == np.float32
    assert float(np.abs(pasted - probability).max()) < 0.06
    disagree = (pasted > 0.5) != (probability > 0.5)
    assert disagree.sum() < 0.03 * (probability > 0.5).sum()


def test_pasting_leaves_everything_outside_untouched() -> None:
    rng = np.random.default_rng(0)
    onto = rng.random((50, 60), dtype=np.float32)
    kept = onto.copy()
    window = Window(40, -5, 20, 20, 32)
    result = window.paste(torch.full((1, 1, 32, 32), 9.0), onto)
    assert np.array_equal(onto, kept)
    inside = np.zeros(onto.shape, bool)
    inside[40:, :15] = True
    assert np.array_equal(result[~inside], onto[~inside])
    assert (result[inside] > 0.99).all()


def test_crops_repeat_the_border_for_images_and_not_for_masks() -> None:
    image = np.ones((3, 20, 20), np.float32)
    window = Window(-10, -10, 40, 40, 40)
    assert window.crop(image).shape == (1, 3, 40, 40)
    assert float(window.crop(image).min()) == 1
    mask = window.crop(image[0], edge=False)
    assert mask.shape == (1, 1, 40, 40)
    assert float(mask.sum()) == pytest.approx(400)


@pytest.mark.filterwarnings("error")
def test_crops_of_read_only_arrays_and_other_types() -> None:
    array = np.ones((20, 20), np.float32)
    array.flags.writeable = False
    assert float(Window(0, 0, 20, 20, 32).crop(array).mean()) == pytest.approx(1)
    assert Window(2, 2, 4, 4, 8).crop(np.ones((20, 20), np.uint8)).dtype == torch.float32


def test_boxes() -> None:
    mask = np.zeros((10, 12), bool)
    assert mask_box(mask) is None
    mask[2, 3] = mask[7, 5] = True
    assert mask_box(mask) == (2, 8, 3, 6)
    assert join(None, None) is None
    assert join(None, (1, 2, 3, 4)) == (1, 2, 3, 4)
    assert join((1, 2, 3, 4), (0, 1, 5, 9)) == (0, 2, 3, 9)


def test_margins() -> None:
    window = Window(0, 0, 100, 100, 64)
    assert window.holds((10, 90, 10, 90), 0.1)
    assert not window.holds((9, 90, 10, 90), 0.1)
    assert not window.holds((0, 101, 0, 10))


# cached features


WINDOW = Window(0, 0, 40, 40, 32)


def view(channels: int = 1) -> SliceView:
    shape = (3, 40, 40) if channels == 1 else (3, 40, 40, 3)
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    return SliceView(Volume.from_array(array, spacing=(1, 1, 1)))


def features(numbers: int) -> tuple[torch.Tensor, ...]:
    return (torch.zeros(numbers),)


def test_cache_counts_and_keeps() -> None:
    cache = FeatureCache(1000)
    calls: list[str] = []

    def compute(name: str) -> tuple[torch.Tensor, ...]:
        calls.append(name)
        return features(10)

    first = cache.get("a", lambda: compute("a"))
    assert cache.get("a", lambda: compute("a")) is first
    cache.get("b", lambda: compute("b"))
    assert (calls, cache.hits, cache.misses, cache.bytes) == (["a", "b"], 1, 2, 80)
    cache.clear()
    cache.get("a", lambda: compute("a"))
    assert calls == ["a", "b", "a"]
    assert cache.bytes == 40


def test_least_recently_used_goes_first() -> None:
    cache = FeatureCache(120)  # three entries of 40 bytes
    for name in "abc":
        cache.get(name, lambda: features(10))
    cache.get("a", lambda: features(10))
    cache.get("d", lambda: features(10))
    assert cache.bytes == 120
    misses = cache.misses
    for name in "acd":
        cache.get(name, lambda: features(10))
    assert cache.misses == misses
    cache.get("b", lambda: features(10))
    assert cache.misses == misses + 1


def test_bound_holds_for_any_sizes() -> None:
    cache = FeatureCache(400)
    rng = np.random.default_rng(0)
    for name in range(200):
        cache.get(int(rng.integers(40)), lambda: features(int(rng.integers(1, 150))))
        assert cache.bytes <= 400, name


def test_too_large_and_empty_caches() -> None:
    cache = FeatureCache(100)
    cache.get("small", lambda: features(10))
    cache.get("large", lambda: features(1000))
    assert cache.bytes == 40
    nothing = FeatureCache(0)
    nothing.get("a", lambda: features(1))
    nothing.get("a", lambda: features(1))
    assert (nothing.bytes, nothing.hits, nothing.misses) == (0, 0, 2)


def test_precision() -> None:
    cpu = torch.device("cpu")
    assert use_bf16("bf16", cpu)
    assert not use_bf16("fp32", cpu)
    assert isinstance(use_bf16("auto", cpu), bool)


def test_equal_encoders_share_the_cache_and_others_do_not() -> None:
    cache = FeatureCache()
    one, other = small_interaction(), small_propagation()
    other.encoder.load_state_dict(one.encoder.state_dict())
    stranger = small_interaction(embedding=4)
    encoders = [WindowEncoder(n, "cpu", "fp32", cache) for n in (one, other, stranger)]
    made = [e.features(view(), 1, WINDOW) for e in encoders]
    assert made[0] is made[1]
    assert made[2] is not made[0]
    assert (cache.hits, cache.misses) == (1, 2)


def test_everything_that_changes_the_features_is_in_the_key() -> None:
    cache = FeatureCache()
    encoder = WindowEncoder(small_interaction(), "cpu", "fp32", cache)
    first = view()
    encoder.features(first, 0, WINDOW)
    encoder.features(first, 1, WINDOW)
    encoder.features(first, 0, Window(0, 0, 20, 20, 32))
    encoder.features(first.with_window((10, 20)), 0, WINDOW)
    encoder.features(SliceView(first.volume, 1), 0, WINDOW)
    WindowEncoder(encoder.network, "cpu", "bf16", cache).features(first, 0, WINDOW)
    assert (cache.hits, cache.misses) == (0, 6)


@pytest.mark.parametrize("wanted", [1, 3])
@pytest.mark.parametrize("given", [1, 3])
def test_grey_and_colour_fit_any_network(wanted: int, given: int) -> None:
    encoder = WindowEncoder(small_interaction(wanted), "cpu", "fp32", FeatureCache())
    image = encoder.image(view(given), 0, WINDOW)
    assert image.shape == (1, wanted, 32, 32)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1 + 1e-6


def test_bf16_runs_in_bf16() -> None:
    encoder = WindowEncoder(small_interaction(), "cpu", "bf16", FeatureCache())
    assert encoder.features(view(), 0, WINDOW)[1].dtype == torch.bfloat16
    exact = WindowEncoder(small_interaction(), "cpu", "fp32", FeatureCache())
    assert exact.features(view(), 0, WINDOW)[1].dtype == torch.float32


@pytest.mark.parametrize("make", [small_interaction, small_propagation])
def test_convolutions_cast_beforehand_are_those_of_autocast(make: Callable[[], nn.Module]) -> None:
    network = make()
    encoder = WindowEncoder(network, "cpu", "bf16", FeatureCache())
    found = encoder.features(view(), 0, WINDOW)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = network.encode_image(encoder.image(view(), 0, WINDOW))  # type: ignore[operator]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


# fingerprints of weights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def train(net: nn.Module) -> None:
    net(torch.ones(2, 1, 8, 8)).square().sum().backward()
    with torch.no_grad():
        for p in net.parameters():
            p.sub_(p.grad, alpha=1e-3)  # type: ignore[arg-type]


def see_statistics(net: nn.Module) -> None:
    with torch.no_grad():
        net(torch.rand(2, 1, 8, 8))


def swap_filters(net: nn.Module) -> None:
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight.flip(0).clone())  # type: ignore[index,union-attr,operator]


def replace(net: nn.Module) -> None:
    net[2].weight = nn.Parameter(net[2].weight.detach() + 1)  # type: ignore[index,union-attr,operator]


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "load": lambda net: net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()}),
    "train": train,
    "statistics": see_statistics,
    "data": lambda net: net[0].weight.data.mul_(1.0001),  # type: ignore[index,union-attr,operator]
    "one number by NumPy": lambda net: net[2].weight.detach().numpy().__setitem__((0, 0, 0, 0), 3.0),  # type: ignore[index,union-attr,operator]
    "order": swap_filters,
    "parameter": replace,
    "format": lambda net: net.to(torch.bfloat16),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_of_the_weights_is_seen(change: Callable[[nn.Module], object]) -> None:
    net = network()
    before = fingerprint(net)
    change(net)
    after = fingerprint(net)
    assert after != before
    assert after == fingerprint(copy.deepcopy(net))  # what a module that was never looked at says
    assert fingerprint(network()) == before


def test_hashed_once_and_again_after_a_change() -> None:
    net = network()
    with patch.object(place, "_hash", wraps=place._hash) as hashed:
        assert len({fingerprint(net) for _ in range(3)}) == 1
        assert hashed.call_count == 1
        train(net)
        fingerprint(net), fingerprint(net)
        assert hashed.call_count == 2


def test_layout_in_memory_is_no_change() -> None:
    net = network()
    before = fingerprint(net)
    assert fingerprint(net.to(memory_format=torch.channels_last)) == before


def test_unusual_weights() -> None:
    with torch.inference_mode():
        frozen = network()
    assert fingerprint(frozen) == fingerprint(network())
    odd = nn.Module()
    assert fingerprint(odd) == fingerprint(nn.ReLU())
    odd.register_buffer("flags", torch.tensor([True, False]))
    odd.register_buffer("waves", torch.ones(2, dtype=torch.complex128))
    odd.register_buffer("scalar", torch.tensor(2.0))
    before = fingerprint(odd)
    odd.flags.data[1] = True  # type: ignore[operator,union-attr,index]
    assert fingerprint(odd) != before


def test_networks_are_not_kept_alive() -> None:
    net = network()
    fingerprint(net)
    watch = weakref.ref(net)
    del net
    gc.collect()
    assert watch() is None


def test_a_volume_is_opened_without_hashing_and_identity_follows_the_weights() -> None:
    segmenter: InteractiveSegmenter = small_segmenter()
    volume = blob().astype(np.float32)
    segmenter.open(volume)
    before = segmenter.identity
    with patch.object(place, "_hash", wraps=place._hash) as hashed:
        segmenter.open(volume)
        assert hashed.call_count == 0
        segmenter.interaction.load_state_dict({k: v * 2 for k, v in segmenter.interaction.state_dict().items()})
        case = segmenter.open(volume)
        assert hashed.call_count == 2  # the click network and its image half
    assert segmenter.identity["sha256"] != before["sha256"]
    assert case._engine.identity == segmenter.identity
