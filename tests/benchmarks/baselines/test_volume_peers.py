from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines.confidence_connected import ConfidenceConnectedPeer
from benchmarks.baselines.geodesic import GeodesicPeer, distances
from benchmarks.baselines.grid import Grid
from benchmarks.baselines.random_walker import RandomWalkerPeer, walk
from benchmarks.core.protocol import Predictor, config_hash, predictor_config
from limnet.volume import Volume
from tests.helpers.peer_scenes import ball, painted, played, rod
from tests.helpers.scenes import dice

PEERS = [RandomWalkerPeer(), GeodesicPeer(), ConfidenceConnectedPeer()]
peers = pytest.mark.parametrize("peer", PEERS, ids=lambda p: p.name)


@peers
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (1.0, 0.6, 1.5)])
def test_a_ball_is_found_in_a_few_clicks(peer: Predictor, spacing: tuple[float, float, float]):
    volume, truth = ball(spacing)
    masks = played(peer.start(volume, 0), volume, truth, 3)
    assert dice(masks[-1], truth) > 0.85
    assert masks[-1].dtype == bool


@peers
def test_the_same_clicks_give_the_same_mask(peer: Predictor):
    volume, truth = ball()
    first, second = (played(peer.start(volume, 0), volume, truth, 3) for _ in range(2))
    assert len(first) == len(second)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@peers
def test_a_negative_click_takes_away(peer: Predictor):
    volume, truth = rod()  # nothing in the image says that the object should end before its end
    session = peer.start(volume, 0)
    before = session.click((12, 14, 27), True)
    assert before[12, 14, 44]
    after = session.click((12, 14, 44), False)
    assert not after[12, 14, 44]
    assert after[12, 14, 27]
    assert after[:, :, 40:].sum() < 0.5 * before[:, :, 40:].sum()
    assert after[:, :, 15:30].sum() > 0.5 * truth[:, :, 15:30].sum()


@peers
def test_nothing_is_marked_before_a_positive_click(peer: Predictor):
    volume, truth = ball()
    session = peer.start(volume, 0)
    assert not session.click((2, 2, 2), False).any()
    assert dice(session.click((20, 20, 20), True), truth) > 0.5


@peers
def test_colours_nan_and_flat_volumes(peer: Predictor):
    volume, truth = ball()
    array = volume.array.copy()
    array[0, 0, :5] = np.nan
    assert dice(peer.start(Volume.from_array(array, volume.spacing), 0).click((20, 20, 20), True), truth) > 0.5
    colours = np.repeat(np.clip(volume.array, 0, 255).astype(np.uint8)[..., None], 3, -1)
    assert dice(peer.start(Volume.from_array(colours, volume.spacing), 1).click((20, 20, 20), True), truth) > 0.5
    flat = peer.start(Volume.from_array(np.zeros((5, 16, 16), np.int16), (1, 1, 1)), 0)
    assert flat.click((2, 8, 8), True).shape == (5, 16, 16)
    single = peer.start(painted(truth[20:21], (1.0, 1.0, 1.0)), 0)
    assert dice(single.click((0, 20, 20), True), truth[20:21]) > 0.7


def test_configurations_are_told_apart():
    hashes = [config_hash(predictor_config(peer)) for peer in [*PEERS, RandomWalkerPeer(beta=1.0)]]
    assert len(set(hashes)) == 4


def test_a_walker_goes_by_millimetres():
    values = np.full((9, 9, 9), 0.5, np.float32)
    fixed = np.full(values.shape, np.nan, np.float32)
    for face in (fixed[0], fixed[-1], fixed[:, 0], fixed[:, -1], fixed[:, :, 0], fixed[:, :, -1]):
        face[...] = 0
    fixed[4, 4, 4] = 1
    found = walk(values, (3.0, 1.0, 1.0), fixed, values, values, 100.0, 0.0)
    assert found[4, 5, 4] == pytest.approx(found[4, 4, 5], rel=1e-3)
    assert found[5, 4, 4] < 0.6 * found[4, 5, 4]


def test_a_walker_against_a_dense_solution():
    rng = np.random.default_rng(1)
    values = rng.random((3, 4, 5)).astype(np.float32)
    fixed = np.full(values.shape, np.nan, np.float32)
    fixed[0, 0, 0], fixed[2, 3, 4] = 1, 0
    prior = rng.random(values.shape).astype(np.float32)
    spacing, beta, gamma = (2.0, 1.0, 0.5), 3.0, 0.2
    scale = np.mean([s**-2 for s in spacing])
    matrix, right = np.zeros((60, 60)), np.zeros(60)
    nodes = list(np.ndindex(values.shape))
    for i, a in enumerate(nodes):
        if not np.isnan(fixed[a]):
            matrix[i, i], right[i] = 1, fixed[a]
            continue
        matrix[i, i] += gamma
        right[i] += gamma * prior[a]
        for j, b in enumerate(nodes):
            step = np.abs(np.subtract(a, b))
            if step.sum() == 1:
                distance = spacing[int(step.argmax())]
                weight = (np.exp(-beta * (values[a] - values[b]) ** 2) + 1e-4) / distance**2 / scale
                matrix[i, i] += weight
                matrix[i, j] -= weight
    expected = np.linalg.solve(matrix, right).reshape(values.shape)
    assert np.allclose(walk(values, spacing, fixed, prior, prior, beta, gamma), expected, atol=2e-3)


def test_distances_are_in_millimetres():
    grid = Grid.on([(0, 12), (0, 30), (0, 20)], (3.0, 1.0, 1.5), 10**6)
    flat, start = np.zeros(grid.shape), [(6, 10, 10)]
    found = distances(np.ones(grid.shape), flat, grid, start)
    z, y, x = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    expected = np.sqrt(((z - 6) * 3.0) ** 2 + (y - 10.0) ** 2 + ((x - 10) * 1.5) ** 2)
    assert (found >= expected - 1e-4).all()  # no short cuts
    assert (found <= 1.28 * expected + 1e-4).all()  # 1.13 where nodes lie evenly
    assert found[6, 20, 10] == pytest.approx(10.0)
    assert found[9, 10, 10] == pytest.approx(9.0)
    assert distances(2 * np.ones(grid.shape), flat, grid, start)[9, 10, 10] == pytest.approx(18.0)
    wall = flat.copy()
    wall[:, 15:] = 50.0
    over = distances(np.ones(grid.shape), wall, grid, start)
    assert over[6, 20, 10] == pytest.approx(60.0)  # height counts once, at the step
    assert np.allclose(over[:, :15], found[:, :15])
    assert np.allclose(distances(np.ones(grid.shape), wall, grid, [*start, (6, 20, 10)])[6, 20, 10], 0)
    assert (distances(np.ones(grid.shape), flat, grid, []) == 1e6).all()
    single = Grid.on([(0, 1), (0, 4), (0, 5)], (1.0, 1.0, 1.0), 10**6)
    assert distances(np.ones(single.shape), np.zeros(single.shape), single, [(0, 0, 0)])[0, 3, 3] == pytest.approx(
        3 * np.sqrt(2)
    )
