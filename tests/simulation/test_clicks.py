from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from limnet.errors import InputError
from limnet.simulation.clicks import RobotUser, largest_errors


def ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius: float, spacing=(1, 1, 1)) -> np.ndarray:
    grid = np.indices(shape).astype(float)
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing, strict=True)) <= radius**2


def test_first_click_is_the_middle_of_the_largest_slice():
    target = ball((21, 31, 41), (9, 14, 25), 7)
    click = RobotUser().next_click(target)
    assert click is not None
    assert click.zyx == (9, 14, 25)
    assert click.positive
    assert click.size == target[9].sum()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_first_click_follows_the_slice_axis(axis: int):
    target = np.zeros((11, 11, 11), bool)
    index = [slice(3, 8)] * 3
    index[axis] = slice(6, 7)  # largest slice along `axis` is 6 ...
    target[tuple(index)] = True
    line: list = [5, 5, 5]
    line[axis] = slice(0, 11)  # ... but the object reaches further
    target[tuple(line)] = True
    click = RobotUser(axis=axis).next_click(target)
    assert click.zyx[axis] == 6
    assert click.zyx == tuple(6 if a == axis else 5 for a in range(3))


def test_first_click_uses_in_plane_spacing():
    target = np.zeros((1, 40, 40), bool)
    target[0, 2:5, 2:30] = True  # 3 voxels of 10 mm by 28 voxels of 0.5 mm: 30 x 14 mm
    target[0, 20:31, 20:31] = True  # 11 x 11 voxels: 110 x 5.5 mm
    click = RobotUser(spacing=(1, 10, 0.5)).next_click(target)
    assert 2 <= click.zyx[1] <= 4
    click = RobotUser(spacing=(1, 1, 1)).next_click(target)
    assert click.zyx == (0, 25, 25)


def test_equal_slices_give_the_middle_one():
    target = np.zeros((9, 15, 15), bool)
    target[1:8, 4:11, 4:11] = True
    assert RobotUser().next_click(target).zyx == (4, 7, 7)


def test_empty_target_and_perfect_mask_end_the_session():
    target = ball((9, 9, 9), (4, 4, 4), 3)
    assert RobotUser().next_click(np.zeros((4, 4, 4), bool)) is None
    assert RobotUser().next_click(target, target, 3) is None


def test_later_clicks_go_to_the_largest_error_with_the_right_sign():
    target = np.zeros((12, 30, 30), bool)
    target[2:9, 5:14, 5:14] = True
    mask = target.copy()
    mask[4:7, 6:9, 6:9] = False  # 27 voxels missed
    mask[2:7, 20:25, 20:25] = True  # 125 voxels too many
    click = RobotUser().next_click(target, mask, 2)
    assert (click.zyx, click.positive, click.size) == ((4, 22, 22), False, 125)
    mask[2:7, 20:25, 20:25] = False
    click = RobotUser().next_click(target, mask, 3)
    assert (click.zyx, click.positive, click.size) == ((5, 7, 7), True, 27)


def test_diagonal_neighbours_are_one_component():
    target = np.zeros((6, 12, 12), bool)
    target[1, 1:3, 1:3] = True
    target[2, 3:5, 3:5] = True  # touches only at a corner in 3-D: 8 voxels together
    target[5, 8:10, 8:11] = True  # 6 voxels
    click = RobotUser().next_click(target, np.zeros_like(target), 2)
    assert click.size == 8


def test_depth_is_in_millimetres():
    # Slabs of 3 x 9 x 9 and 9 x 3 x 9 voxels in one component; a gap of 5 mm makes the first one the deeper.
    target = np.zeros((14, 16, 12), bool)
    target[1:4, 2:11, 1:10] = True
    target[4:13, 6:9, 1:10] = True
    click = RobotUser(spacing=(5, 1, 1)).next_click(target, np.zeros_like(target), 2)
    assert click.zyx[0] == 2
    click = RobotUser(spacing=(0.2, 1, 1)).next_click(target, np.zeros_like(target), 2)
    assert click.zyx[0] > 2


def test_a_component_of_one_thick_slice_is_clicked_in_its_middle():
    target = np.zeros((5, 41, 41), bool)
    target[2] = ball((1, 41, 41), (0, 20, 20), 15)[0]
    click = RobotUser(spacing=(5, 1, 1)).next_click(target, np.zeros_like(target), 2)
    assert click.zyx == (2, 20, 20)


def test_the_edge_of_the_volume_counts_as_outside():
    target = np.zeros((9, 9, 9), bool)
    target[:, :, :5] = True
    click = RobotUser().next_click(target, np.zeros_like(target), 2)
    assert click.zyx == (4, 4, 2)


def test_off_centre_draws_are_seeded_and_deep():
    target = ball((15, 41, 41), (7, 20, 20), 12, (2, 1, 1))
    clicks = {RobotUser((2, 1, 1), off_centre=True, seed=1, case=k).next_click(target).zyx for k in range(20)}
    assert len(clicks) > 5
    for z, y, x in clicks:
        assert z == 7
        assert np.hypot(y - 20, x - 20) < 7
    again = [RobotUser((2, 1, 1), off_centre=True, seed=1, case=3).next_click(target) for _ in range(2)]
    assert again[0] == again[1]


def test_jitter_stays_inside_and_near():
    target = ball((15, 41, 41), (7, 20, 20), 12)
    for k in range(20):
        z, y, x = RobotUser(jitter=3.0, case=k).next_click(target, np.zeros_like(target), 2).zyx
        assert target[z, y, x]
        assert (z - 7) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 <= 9


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"spacing": (0, 1, 1)}, "spacing"),
        ({"spacing": (1, 1)}, "spacing"),
        ({"axis": 3}, "axis"),
        ({"jitter": -1}, "jitter"),
        ({"slip": -1}, "slip"),
        ({"wrong_side": 1.5}, "wrong_side"),
        ({"overlook": -0.1}, "overlook"),
    ],
)
def test_bad_settings(arguments: dict, word: str):
    with pytest.raises(InputError, match=word):
        RobotUser(**arguments)


def test_bad_arrays():
    with pytest.raises(InputError, match="D, H, W"):
        RobotUser().next_click(np.zeros((4, 4)))
    with pytest.raises(InputError, match="equal"):
        RobotUser().next_click(np.ones((4, 4, 4)), np.ones((4, 4, 5)), 2)


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
