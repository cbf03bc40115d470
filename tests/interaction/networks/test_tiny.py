from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from limnet.errors import InputError
from limnet.interaction.networks.tiny import (
    FAR,
    STEP,
    TinyInteraction,
    geodesic_closeness,
    geodesic_distance,
    intensity_difference,
)
from tests.helpers.tiny_networks import disk, small_interaction

IMAGE_HALF = 12e9  # floating-point operations at 480 x 480
CLICK_HALF = 10e9
CLICK_IN_WINDOW = 1.2e9  # at 160 x 160, where clicks run


def inputs(height: int, width: int, batch: int = 1, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, channels, height, width, generator=generator)
    prompts = torch.zeros(batch, 4, height, width)
    prompts[:, 0] = disk(height, width, (height / 2, width / 2), 7)[0, 0] * 0.8
    prompts[:, 1] = disk(height, width, (height / 2, width / 3), 3)[0, 0]
    prompts[:, 2] = disk(height, width, (5, 4), 3)[0, 0]
    prompts[:, 3, 4 : height - 6, 6 : width - 4] = 1
    return image, prompts


@pytest.fixture(scope="module")
def network() -> TinyInteraction:
    return small_interaction()


def test_image_half_depends_on_the_image_alone_and_serves_many_clicks(network: TinyInteraction) -> None:
    image, prompts = inputs(64, 64)
    with torch.inference_mode():
        features = network.encode_image(image)
        kept = [f.clone() for f in features]
        first = network.decode(features, prompts)["instances"]
        network.decode(features, torch.zeros_like(prompts))
        assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))
        assert torch.equal(network.decode(features, prompts)["instances"], first)


@pytest.mark.parametrize("map_number", range(4))
def test_every_prompt_matters(network: TinyInteraction, map_number: int) -> None:
    image, prompts = inputs(64, 64)
    without = prompts.clone()
    without[:, map_number] = 0
    with torch.inference_mode():
        change = network(image, prompts)["instances"] - network(image, without)["instances"]
    assert float(change.abs().max()) > 1e-3


def test_default_sizes_keep_their_budget() -> None:
    with FakeTensorMode(), torch.inference_mode():
        network = TinyInteraction().eval()
        with FlopCounterMode(display=False) as image_half:
            features = network.encode_image(torch.rand(1, 1, 480, 480))
        with FlopCounterMode(display=False) as click_half:
            network.decode(features, torch.rand(1, 4, 480, 480))
        window = network.encode_image(torch.rand(1, 1, 160, 160))
        with FlopCounterMode(display=False) as in_window:
            network.decode(window, torch.rand(1, 4, 160, 160))
    assert 5e9 < image_half.get_total_flops() <= IMAGE_HALF
    assert 1e9 < click_half.get_total_flops() <= CLICK_HALF
    assert in_window.get_total_flops() <= CLICK_IN_WINDOW


def test_unknown_decoder() -> None:
    with pytest.raises(InputError, match="'unet'"):
        TinyInteraction(decoder="deep")


def test_intensity_difference_by_hand() -> None:
    image = torch.tensor([[0.1, 0.3], [0.5, 0.9]])[None, None]
    weights = torch.tensor([[1.0, 1.0], [0.0, 0.0]])[None, None]
    torch.testing.assert_close(intensity_difference(image, weights), (image - 0.2) * 4)
    assert not intensity_difference(image, torch.zeros_like(weights)).any()


def dijkstra(gray: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Exact distances on the 4-neighbour grid."""
    ids = np.arange(gray.size).reshape(gray.shape)
    rows = np.concatenate([ids[:, :-1].ravel(), ids[:-1].ravel()])
    columns = np.concatenate([ids[:, 1:].ravel(), ids[1:].ravel()])
    costs = np.abs(gray.ravel()[rows] - gray.ravel()[columns]) + STEP
    graph = sparse.csr_array((costs, (rows, columns)), shape=(gray.size, gray.size))
    found = csgraph.dijkstra(graph, directed=False, indices=np.flatnonzero(seeds), min_only=True)
    return found.reshape(gray.shape)


def smoothed(image: torch.Tensor) -> np.ndarray:
    half = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3)).numpy()
    padded = np.pad(half, 1, mode="edge")
    return sum(padded[i : i + half.shape[0], j : j + half.shape[1]] for i in range(3) for j in range(3)) / 9


@pytest.mark.parametrize("seed", range(4))
def test_many_sweeps_give_the_exact_distance(seed: int) -> None:
    image = torch.rand((24, 32), generator=torch.Generator().manual_seed(seed)).double()
    seeds = torch.zeros(24, 32)
    seeds[5 + seed, 7], seeds[20, 28] = 1, 1
    found = geodesic_distance(image[None, None].float(), seeds[None, None], repeats=40)[0, 0]
    want = dijkstra(smoothed(image), torch.nn.functional.max_pool2d(seeds[None], 2)[0].numpy() > 0)
    np.testing.assert_allclose(found, want, atol=2e-5)


def test_few_sweeps_are_never_too_short() -> None:
    image = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(1))
    seeds = torch.zeros(2, 2, 32, 32)
    seeds[:, 0, 4, 4], seeds[:, 1, 20, 9] = 1, 1
    rough, exact = geodesic_distance(image, seeds, 1), geodesic_distance(image, seeds, 40)
    assert (rough >= exact - 1e-5).all()
    assert (rough > exact + 1e-3).any()


def test_even_tissue_is_near_and_what_lies_behind_an_edge_is_far() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., 32:] = 0.8
    click = torch.zeros(1, 2, 64, 64)
    click[0, 0, 30:34, 4:8] = 1
    near = geodesic_closeness(image, click)
    assert near.shape == (1, 4, 64, 64)
    assert near[0, 0, 60, 20] > 0.3
    assert near[0, 0, 32, 50] < 0.02
    assert (near[0, 2] >= near[0, 0] - 1e-6).all()
    assert not near[0, 1].any()
    assert not near[0, 3].any()


def test_without_seeds_all_is_far() -> None:
    distance = geodesic_distance(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))
    assert distance.shape == (1, 1, 8, 8)
    torch.testing.assert_close(distance, torch.full_like(distance, FAR))


def test_network_with_and_without_the_maps() -> None:
    small = {"widths": (16, 16, 24, 32), "depths": (1, 1, 1, 1), "embedding": 8}
    image, prompts = torch.rand(1, 1, 50, 40), torch.zeros(1, 4, 50, 40)
    prompts[:, 1, 20:24, 20:24] = 1
    for geodesic in (True, False):
        network = TinyInteraction(**small, geodesic=geodesic).eval()  # type: ignore[arg-type]
        assert network.config["geodesic"] is geodesic
        assert network(image, prompts)["instances"].shape == (1, 1, 50, 40)
