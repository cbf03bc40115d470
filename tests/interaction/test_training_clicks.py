from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from limnet.interaction import training_clicks
from limnet.interaction.training_clicks import add_disks, draw_clicks, erosion_depth
from tests.helpers.tiny_networks import disk


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(3))
def test_depth_is_the_chessboard_distance_to_the_border(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((30, 41)) < 0.9
    mask[5:20, 8:30] = True
    expected = distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    depth = erosion_depth(torch.from_numpy(mask).float()[None, None])[0, 0]
    np.testing.assert_array_equal(depth.numpy(), np.minimum(expected, 24))


def test_depth_stops_at_the_limit() -> None:
    assert float(erosion_depth(torch.ones(1, 1, 40, 40), limit=5).max()) == 5
    assert not erosion_depth(torch.zeros(1, 1, 40, 40)).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 57), st.integers(32, 57), st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_clicks_lie_in_the_error_and_know_its_kind(height: int, width: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    target, predicted = (torch.from_numpy(rng.random((3, 1, height, width)) < p) for p in (0.7, 0.4))
    predicted[1] = target[1]
    points, kind = draw_clicks(target, predicted, generator(seed), spread)
    assert points.shape == (3, 2)
    for i in (0, 2):
        row, column = points[i].tolist()
        assert bool(target[i, 0, row, column]) != bool(predicted[i, 0, row, column])
        assert int(kind[i]) == int(target[i, 0, row, column])
    assert int(kind[1]) == -1


def test_the_deeper_error_is_corrected() -> None:
    target = disk(64, 64, (20, 20), 12) > 0
    predicted = disk(64, 64, (45, 45), 6) > 0
    points, kind = draw_clicks(target, predicted, generator())
    assert int(kind) == 1
    assert bool(target[0, 0][tuple(points[0])])
    points, kind = draw_clicks(predicted, target, generator())
    assert int(kind) == 0


def test_spread_moves_clicks_off_the_centre() -> None:
    target = (disk(64, 64, (32, 32), 20) > 0).expand(200, -1, -1, -1)
    nothing = torch.zeros_like(target)

    def distances(spread: float) -> Tensor:
        points, _ = draw_clicks(target, nothing, generator(), spread)
        return (points - 32).float().norm(dim=1)

    centred, wide = distances(0.95), distances(0.0)
    assert float(centred.max()) < 6
    assert float(wide.max()) > 14
    assert float(wide.max()) <= 20


def test_thin_errors_are_found() -> None:
    target = torch.zeros(1, 1, 40, 41, dtype=torch.bool)
    target[0, 0, 39, 40] = True  # one pixel in the last corner of an odd size
    points, kind = draw_clicks(target, torch.zeros_like(target), generator())
    assert points.tolist() == [[39, 40]]
    assert int(kind) == 1


def test_same_seed_same_clicks() -> None:
    target = (disk(64, 64, (32, 32), 20) > 0).expand(20, -1, -1, -1)
    nothing = torch.zeros_like(target)
    first, again, other = (draw_clicks(target, nothing, generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_disks() -> None:
    positive, negative = torch.zeros(3, 1, 20, 20), torch.zeros(3, 1, 20, 20)
    add_disks(positive, negative, torch.tensor([[5, 6], [0, 19], [10, 10]]), torch.tensor([1, 0, -1]), 2.0)
    assert [float(p.sum()) for p in positive] == [13, 0, 0]
    assert [float(n.sum()) for n in negative] == [0, 6, 0]
    assert bool(positive[0, 0, 7, 6])
    assert not bool(positive[0, 0, 7, 7])
    add_disks(positive, negative, torch.tensor([[5, 7]] * 3), torch.tensor([1, 1, 1]), 2.0)
    assert float(positive[0].sum()) == 18  # earlier clicks stay


def test_depth_on_accelerators_is_the_same() -> None:
    masks = (torch.rand(4, 1, 30, 41, generator=generator()) > 0.04).float()
    masks[0] = 1.0
    masks[1] = 0.0
    assert torch.equal(training_clicks._pooled_depth(masks, 9), training_clicks.erosion_depth(masks, 9))
