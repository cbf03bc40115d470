from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from limnet.errors import InputError
from limnet.simulation.clicks import RobotUser
from limnet.simulation.user_noise import largest_errors


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Truth and mask with three errors: 450 voxels missed, 250 surplus beside the object, 27 missed."""
    truth, mask = np.zeros((8, 50, 60), bool), np.zeros((8, 50, 60), bool)
    truth[1:7, 10:30, 10:40] = True
    mask[:] = truth
    mask[1:6, 10:20, 10:19] = False
    mask[1:6, 20:25, 40:50] = True
    mask[2:5, 25:28, 30:33] = False
    return truth, mask


def user(**options) -> RobotUser:
    return RobotUser((2.0, 1.0, 1.0), seed=5, epoch=1, **options)


def test_without_noise_nothing_changes():
    truth, mask = scene()
    for kind in ({}, {"off_centre": True}, {"jitter": 3.0}):
        for case in range(5):
            plain = user(case=case, **kind).next_click(truth, mask, 2)
            assert user(case=case, **kind, wrong_side=0.0, overlook=0.0, slip=9.0).next_click(truth, mask, 2) == plain
    assert user().next_click(truth, mask, 2)[1:] == (True, 450)


def test_noise_leaves_the_other_draws_alone():
    truth, mask = scene()
    careful = [user(case=c, off_centre=True).next_click(truth, mask, 2) for c in range(60)]
    sloppy = [user(case=c, off_centre=True, wrong_side=0.5).next_click(truth, mask, 2) for c in range(60)]
    same = sum(a == b for a, b in zip(careful, sloppy, strict=True))
    assert 15 <= same <= 45  # those that did not slip are voxel for voxel the same


def test_the_largest_error_is_overlooked_as_often_as_asked():
    truth, mask = scene()
    always = user(overlook=1.0).next_click(truth, mask, 2)
    assert (always.positive, always.size) == (False, 250)
    sizes = [user(overlook=0.3, case=c).next_click(truth, mask, 2).size for c in range(300)]
    assert set(sizes) == {450, 250}
    assert 0.3 - 0.11 <= sizes.count(250) / 300 <= 0.3 + 0.11


def test_an_only_error_is_never_overlooked():
    truth, _ = scene()
    mask = truth.copy()
    mask[3, 15:20, 15:20] = False
    assert user(overlook=1.0).next_click(truth, mask, 2) == user().next_click(truth, mask, 2)
    assert user(overlook=1.0).next_click(truth, truth, 2) is None
    assert user(overlook=1.0).next_click(truth) == user().next_click(truth)  # the first click has one object to find


@pytest.mark.parametrize("slip", [1.0, 3.0])
def test_wrong_side_clicks_land_just_beside_the_component(slip: float):
    truth, mask = scene()
    missed = np.zeros_like(truth)
    missed[1:6, 10:20, 10:19] = True
    away = ndimage.distance_transform_edt(~missed, sampling=(1e6, 1, 1))  # within the slice
    places = set()
    for case in range(60):
        right = user(case=case).next_click(truth, mask, 2)
        click = user(case=case, wrong_side=1.0, slip=slip).next_click(truth, mask, 2)
        assert (click.positive, click.size) == (right.positive, right.size)
        assert click.zyx[0] == right.zyx[0]
        assert 0 < away[click.zyx] <= slip
        assert not truth[click.zyx]  # a positive click on background: really wrong
        places.add(click.zyx)
    assert len(places) > 10


def test_wrong_side_of_a_surplus_is_the_object():
    truth, mask = scene()
    for case in range(30):
        click = user(case=case, overlook=1.0, wrong_side=1.0).next_click(truth, mask, 2)
        assert not click.positive
        assert truth[click.zyx]  # a negative click on the object, which lies beside this surplus
        assert click.zyx[2] >= 37


def test_wrong_side_of_a_lonely_surplus_is_just_outside():
    truth, mask = np.zeros((5, 40, 40), bool), np.zeros((5, 40, 40), bool)
    truth[2, 2:5, 2:5] = mask[2, 2:5, 2:5] = True
    mask[2, 25:31, 25:31] = True
    click = user(wrong_side=1.0, slip=2.0).next_click(truth, mask, 3)
    assert not mask[click.zyx]
    assert 23 <= click.zyx[1] <= 32
    assert 23 <= click.zyx[2] <= 32


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_first_clicks_slip_in_their_slice_too(axis: int):
    truth, _ = scene()
    for case in range(20):
        right = user(axis=axis, case=case).next_click(truth)
        click = user(axis=axis, case=case, wrong_side=1.0).next_click(truth)
        assert click.zyx[axis] == right.zyx[axis]
        assert not truth[click.zyx]
        assert click.positive


def test_one_voxel_beside_counts_as_near_however_large_it_is():
    truth = np.zeros((1, 9, 9), bool)
    truth[0, 3:6, 3:6] = True
    click = RobotUser((1, 20.0, 20.0), wrong_side=1.0, slip=0.5).next_click(truth)
    assert not truth[click.zyx]
    assert 2 <= click.zyx[1] <= 6


def test_a_component_that_fills_its_slice_is_clicked_as_usual():
    truth = np.ones((3, 6, 6), bool)
    assert user(wrong_side=1.0).next_click(truth) == user().next_click(truth)


def test_draws_depend_on_seed_epoch_case_and_round_only():
    truth, mask = scene()

    def draw(**where) -> tuple:
        at = {"seed": 1, "epoch": 2, "case": 3, "round": 4, **where}
        number = at.pop("round")
        return RobotUser((2, 1, 1), wrong_side=1.0, overlook=0.5, **at).next_click(truth, mask, number)

    assert draw() == draw()
    for name in ("seed", "epoch", "case", "round"):
        assert len({draw(**{name: value}) for value in range(2, 12)}) > 3


def test_largest_errors_in_order_missed_first_on_a_tie():
    truth, mask = np.zeros((1, 10, 30), bool), np.zeros((1, 10, 30), bool)
    mask[0, 1:3, 1:3] = True
    truth[0, 1:3, 8:10] = True
    truth[0, 1:3, 20:23] = True
    found = largest_errors(truth, mask, 5)
    assert [(c.size, c.positive) for c in found] == [(6, True), (4, True), (4, False)]
    assert all(c.region.sum() == c.size for c in found)
    assert largest_errors(truth, truth) == []


@pytest.mark.parametrize(
    ("options", "word"),
    [({"wrong_side": 1.5}, "wrong_side"), ({"overlook": -0.1}, "overlook"), ({"slip": -1}, "slip")],
)
def test_bad_noise(options: dict, word: str):
    with pytest.raises(InputError, match=word):
        RobotUser(**options)
