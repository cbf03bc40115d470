"""Clicks drawn in a batch, as training does, against the robot user of validation and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from limnet.simulation import click_batch
from limnet.simulation.click_batch import (
    add_disks,
    aims_on_device,
    clicks_to_reach,
    components,
    draw_clicks,
    euclidean_depth,
    robot_clicks,
    scatter_clicks,
)
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


def clicks(target: Tensor, seed: int = 0, most: int = 24) -> tuple[Tensor, Tensor]:
    """Disks of radius 0.5: one pixel a click."""
    positive, negative = torch.zeros(target.shape), torch.zeros(target.shape)
    scatter_clicks(positive, negative, target, torch.Generator().manual_seed(seed), 0.5, most)
    return positive > 0, negative > 0


def test_clicks_lie_on_their_side() -> None:
    target = (disk(64, 64, (30, 33), 15) > 0).expand(60, -1, -1, -1)
    positive, negative = clicks(target)
    assert not (positive & ~target).any()
    assert not (negative & target).any()
    counts = positive.flatten(1).sum(1)
    assert int(counts.min()) >= 1
    assert 3 < float(counts.float().mean()) < 6.5  # 1 + k with chances 0.8 ** k: 5 on average, fewer where two meet
    assert bool((negative.flatten(1).sum(1) == 0).any())
    assert int(negative.flatten(1).sum(1).max()) > 5
    assert int(clicks(target, most=1)[0].flatten(1).sum(1).max()) == 1


def test_positive_clicks_mostly_keep_off_the_border() -> None:
    target = (disk(64, 64, (30, 33), 15) > 0).expand(100, -1, -1, -1)
    inner = torch.from_numpy(ndimage.binary_erosion(target[0, 0].numpy(), ndimage.generate_binary_structure(2, 2), 3))
    positive = clicks(target)[0]
    outside = (positive[:, 0] & ~inner).flatten(1).any(1).float().mean()
    assert 0.02 < float(outside) < 0.2


def test_half_of_the_negative_clicks_lie_near_the_object() -> None:
    target = (disk(128, 128, (60, 60), 12) > 0).expand(150, -1, -1, -1)
    negative = clicks(target)[1]
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    near = (rows - 60) ** 2 + (columns - 60) ** 2 < 17**2
    share = float((negative[:, 0] & near).sum() / negative.sum())
    assert 0.4 < share < 0.65


def test_empty_and_full_targets() -> None:
    positive, negative = clicks(torch.zeros(5, 1, 32, 32, dtype=torch.bool))
    assert not positive.any()
    assert negative.any()
    positive, negative = clicks(torch.ones(5, 1, 32, 32, dtype=torch.bool))
    assert not negative.any()
    assert positive.flatten(1).any(1).all()


class Painter(nn.Module):
    """Sets what is under a positive disk to object and what is under a negative one to background."""

    image_channels = 3
    prompt_channels = ("negative", "previous", "positive")
    click_radius = 4.0

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        assert image.shape[1] == 3
        return (image,)

    def decode(self, features: tuple[Tensor, ...], prompts: Tensor) -> dict[str, Tensor]:
        negative, previous, positive = (prompts[:, i : i + 1] for i in range(3))
        self.seen.append(prompts.clone())
        return {"instances": (torch.maximum(previous, positive) * (1 - negative) - 0.5) * 20}


def slices() -> Tensor:
    """A small disk, two disks of which one is larger, and nothing."""
    pair = disk(48, 48, (12, 12), 5) + disk(48, 48, (32, 30), 9)
    return torch.cat([disk(48, 48, (20, 25), 4), pair, torch.zeros(1, 1, 48, 48)]) > 0


def test_clicks_are_those_of_the_robot_user() -> None:
    target = slices()
    result = robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), target, 6)
    for i, truth in enumerate(target[:, 0].numpy()):
        robot, mask, expected = RobotUser(), None, []
        rows, columns = np.mgrid[:48, :48]
        for number in range(1, 7):
            click = robot.next_click(truth[None], None if mask is None else mask[None], number)
            mask = np.zeros_like(truth) if mask is None else mask
            if click is not None:
                _, y, x = click.zyx
                expected.append((y, x, click.positive))
                mask = np.where((rows - y) ** 2 + (columns - x) ** 2 <= 16, click.positive, mask)
        assert result.clicks[i] == expected
        np.testing.assert_array_equal(result.mask[i, 0].numpy(), mask)
        dice = (2 * (mask & truth).sum() + 1) / (mask.sum() + truth.sum() + 1)
        assert float(result.dice[-1, i]) == np.float32(dice)
    assert len(result.clicks[0]) == 1  # the disk fits at once
    assert len(result.clicks[1]) == 6
    assert result.clicks[1][0][:2] == (32, 30)  # the larger one first, in its middle
    assert result.clicks[2] == []


def test_scores_of_empty_slices_are_perfect() -> None:
    result = robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), slices(), 2)
    assert result.iou.shape == result.dice.shape == (2, 3)
    assert result.iou[:, 2].tolist() == result.dice[:, 2].tolist() == [1, 1]
    assert result.iou[:, 0].tolist() == [1, 1]
    assert bool((result.iou <= result.dice).all())


def test_prompts_reach_the_network_in_its_own_order() -> None:
    network = Painter()
    robot_clicks(network, torch.zeros(3, 1, 48, 48), slices(), 2)
    negative, previous, positive = network.seen[1][1]
    assert not negative.any()
    assert bool(previous[32, 30] > 0.5)
    assert float(positive.sum()) > 49  # both disks


def test_number_of_clicks() -> None:
    iou = torch.tensor([[0.9, 0.1, 0.2, 0.85], [0.1, 0.9, 0.2, 0.0], [0.1, 0.95, 0.84, 0.0]])
    assert clicks_to_reach(iou, 0.85).tolist() == [1, 2, 3, 1]


def test_start_masks_are_corrected() -> None:
    target = slices()
    start = target.clone()
    start[0] |= disk(48, 48, (40, 8), 6)[0] > 0  # too much: a negative click there
    start[1] = disk(48, 48, (12, 12), 5)[0] > 0  # the larger disk is missing
    result = robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), target, 1, start)
    assert result.clicks == [[(40, 8, False)], [(32, 30, True)], []]
    assert float(result.dice[0, 0]) > float(robot_clicks(Painter(), torch.zeros(3, 1, 48, 48), start, 1).dice[0, 0])
    assert torch.equal(result.mask[2], start[2])
    none = torch.zeros_like(start)
    assert (
        robot_clicks(Painter(), none.float(), target, 3, none).clicks
        == robot_clicks(Painter(), none.float(), target, 3).clicks
    )


def test_disks_added_to_maps() -> None:
    positive, negative = torch.zeros(3, 1, 20, 20), torch.zeros(3, 1, 20, 20)
    add_disks(positive, negative, torch.tensor([[5, 6], [0, 19], [10, 10]]), torch.tensor([1, 0, -1]), 2.0)
    assert [float(p.sum()) for p in positive] == [13, 0, 0]
    assert [float(n.sum()) for n in negative] == [0, 6, 0]
    assert bool(positive[0, 0, 7, 6])
    assert not bool(positive[0, 0, 7, 7])
    add_disks(positive, negative, torch.tensor([[5, 7]] * 3), torch.tensor([1, 1, 1]), 2.0)
    assert float(positive[0].sum()) == 18  # earlier clicks stay
