from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from limnet.propagation.memory import similarity
from limnet.propagation.networks.tiny import (
    PROMPTS_IN_MEMORY,
    RECENT_IN_MEMORY,
    TOP_K,
    Remembered,
    TinyPropagation,
    histogram,
    likelihood,
    surroundings,
)
from tests.helpers.tiny_networks import disk, small_propagation

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
