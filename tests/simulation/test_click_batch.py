"""Clicks drawn in a batch, as training does, against the robot user of validation and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from limnet.simulation import click_batch
from limnet.simulation.click_batch import aims_on_device, components, draw_clicks, euclidean_depth
from limnet.simulation.clicks import RobotUser
from tests.helpers.blobs import blob
from tests.helpers.tiny_networks import disk

PLACES = ["cpu", "device"]


def drawn(place: str, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """`draw_clicks`; with "device" the tensors' own way is taken on the CPU, too."""
    with pytest.MonkeyPatch.context() as patch:
        if place == "device":
            patch.setattr(click_batch, "_aims", aims_on_device)
        return draw_clicks(*arguments, **options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An object and a mask that went wrong in several places."""
    rng = np.random.default_rng(seed)
    truth = blob(seed, (96, 96))
    holes = ndimage.gaussian_filter(rng.normal(size=truth.shape), 5) > 0.06
    holes &= ndimage.binary_dilation(truth, iterations=9)
    return truth, np.roll(truth, rng.integers(-9, 10, 2), (0, 1)) ^ holes


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("seed", "fresh"), [(1, False), (2, False), (3, True)])
def test_training_clicks_where_the_benchmark_clicks(seed: int, fresh: bool, place: str) -> None:
    """Drawn 150 times in a batch and one by one: the same sign, the same error, the same distribution over it."""
    truth, mask = scene(seed)
    mask = np.zeros_like(mask) if fresh else mask
    count = 150
    target, predicted = (torch.from_numpy(m).expand(count, 1, *m.shape) for m in (truth, mask))
    points, kind = drawn(place, target, predicted, generator(seed), first=fresh)
    before = None if fresh else mask[None]
    robot = [RobotUser(off_centre=True, case=i).next_click(truth[None], before, 1 + (not fresh)) for i in range(count)]
    assert kind.tolist() == [int(click.positive) for click in robot if click is not None]
    one_by_one = np.array([click.zyx[1:] for click in robot if click is not None])
    together = points.numpy()
    aim = RobotUser().aim(truth[None], before)
    assert aim is not None
    depth = np.zeros(truth.shape)
    depth[aim.where[1:]] = aim.depth[0]
    slack = 0 if place == "cpu" else 1  # of the coarser grid, in pixels
    assert (depth[tuple(together.T)] > depth.max() / 2 - slack).all()
    for found in (lambda p: p[:, 0], lambda p: p[:, 1], lambda p: depth[tuple(p.T)]):
        a, b = found(one_by_one).astype(float), found(together).astype(float)
        assert abs(a.mean() - b.mean()) < 4 * np.hypot(a.std(), b.std()) / np.sqrt(count) + slack
        assert abs(a.std() - b.std()) < 0.15 * a.std() + slack


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=25, deadline=None)
@given(st.integers(32, 57), st.integers(32, 57), st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_clicks_lie_in_the_error_and_know_its_kind(
    place: str, height: int, width: int, seed: int, off_centre: float
) -> None:
    rng = np.random.default_rng(seed)
    target, predicted = (torch.from_numpy(rng.random((3, 1, height, width)) < p) for p in (0.7, 0.4))
    predicted[1] = target[1]
    points, kind = drawn(place, target, predicted, generator(seed), off_centre)
    assert points.shape == (3, 2)
    for i in (0, 2):
        row, column = points[i].tolist()
        assert bool(target[i, 0, row, column]) != bool(predicted[i, 0, row, column])
        assert int(kind[i]) == int(target[i, 0, row, column])
    assert int(kind[1]) == -1


@pytest.mark.parametrize("place", PLACES)
def test_the_largest_error_is_corrected(place: str) -> None:
    """Not the deepest one: a long strip is larger than a small disk."""
    target = disk(64, 64, (45, 45), 6) > 0
    target[..., 4:10, 2:60] = True
    points, kind = drawn(place, target, torch.zeros_like(target), generator())
    assert int(kind) == 1
    assert int(points[0, 0]) < 10
    _, kind = drawn(place, torch.zeros_like(target), target, generator())
    assert int(kind) == 0


@pytest.mark.parametrize("place", PLACES)
def test_off_centre_moves_clicks_off_the_centre(place: str) -> None:
    target = (disk(64, 64, (32, 32), 20) > 0).expand(200, -1, -1, -1)
    nothing = torch.zeros_like(target)

    def distances(off_centre: float) -> Tensor:
        points, _ = drawn(place, target, nothing, generator(), off_centre)
        return (points - 32).float().norm(dim=1)

    centred, wide = distances(0.95), distances(0.0)
    assert float(centred.max()) < 4
    assert float(wide.max()) > 14
    assert float(wide.max()) <= 20


@pytest.mark.parametrize("place", PLACES)
def test_thin_errors_are_found(place: str) -> None:
    target = torch.zeros(1, 1, 40, 41, dtype=torch.bool)
    target[0, 0, 39, 40] = True  # one pixel in the last corner of an odd size
    points, kind = drawn(place, target, torch.zeros_like(target), generator())
    assert points.tolist() == [[39, 40]]
    assert int(kind) == 1


def test_same_seed_same_clicks() -> None:
    target = (disk(64, 64, (32, 32), 20) > 0).expand(20, -1, -1, -1)
    nothing = torch.zeros_like(target)
    first, again, other = (draw_clicks(target, nothing, generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def spiral(side: int) -> np.ndarray:
    """One winding line: the longest way through a slice."""
    grid = np.zeros((side, side), bool)
    row, column, step, length, turn = side // 2, side // 2, (0, 1), 2, 0
    while 0 <= row < side and 0 <= column < side:
        for _ in range(length):
            if not (0 <= row < side and 0 <= column < side):
                break
            grid[row, column] = True
            row, column = row + step[0], column + step[1]
        step, turn = (step[1], -step[0]), turn + 1
        length += 2 * (turn % 2 == 0)
    return grid


@pytest.mark.parametrize("kind", ["spiral", "noise", "blobs", "full", "empty"])
def test_components_are_those_of_scipy(kind: str) -> None:
    rng = np.random.default_rng(1)
    masks = {
        "spiral": spiral(120)[None, None],
        "noise": rng.random((2, 2, 90, 110)) < 0.35,
        "blobs": ndimage.gaussian_filter(rng.normal(size=(3, 2, 80, 80)), (0, 0, 2, 2)) > 0.02,
        "full": np.ones((1, 2, 33, 40), bool),
        "empty": np.zeros((1, 2, 33, 40), bool),
    }[kind]
    found = components(torch.from_numpy(masks)).numpy()
    nothing = masks[0].size
    assert ((found == nothing) == ~masks).all()
    for sample, numbers in zip(masks, found, strict=True):
        for k, (mask, number) in enumerate(zip(sample, numbers, strict=True)):
            labels, count = ndimage.label(mask, np.ones((3, 3)))
            firsts = [k * mask.size + int(np.flatnonzero(labels == i)[0]) for i in range(1, count + 1)]
            np.testing.assert_array_equal(number, np.array([nothing, *firsts])[labels])


@pytest.mark.parametrize("shape", [(33, 40), (40, 33), (7, 30)])
def test_depth_is_the_euclidean_distance_to_the_outside(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    masks = np.stack([rng.random(shape) < 0.93, np.ones(shape, bool), np.zeros(shape, bool), blob(0, shape)])
    expected = [ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] for mask in masks]
    np.testing.assert_allclose(euclidean_depth(torch.from_numpy(masks)).numpy(), expected, rtol=1e-5)
    near = euclidean_depth(torch.from_numpy(masks), 3).numpy()
    within = np.stack(expected) <= 3
    np.testing.assert_allclose(near[within], np.stack(expected)[within], rtol=1e-5)
    assert (near[~within] > 3).all()
