import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse import csgraph

from limnet.blocks.geodesic import FAR, STEP, geodesic_distance
from limnet.interaction.networks.tiny import TinyInteraction, geodesic_closeness


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
