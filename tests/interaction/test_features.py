from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.interaction.features import FeatureCache, WindowEncoder, use_bf16
from limnet.interaction.window import Window
from tests.helpers.tiny_networks import small_interaction, small_propagation

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
