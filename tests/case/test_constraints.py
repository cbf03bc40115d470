"""Constraints: clicks and strokes hold, boxes bound the object, empty prompted slices end it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.case.case import Case
from limnet.case.constraints import ANSWERED, enforce, extent_of, negative_click, plane_of, reach, supported
from limnet.case.state import Round
from limnet.errors import Cancelled, InputError
from limnet.image.slices import BitMask
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt2D, Scribble
from tests.helpers.fake_engine import fake_case, phantom
from tests.helpers.small_segmenter import seen, small_segmenter

SLICE = (20, 24)
SHAPE = (12, 40, 48)
BOX = Box((3, 10, 12), (9, 24, 26))
STATED = np.zeros(SHAPE[1:], bool)
STATED[20:38, 14:16] = True


def click(y: int, x: int, positive: bool = True) -> Prompt2D:
    return Prompt2D("click", positive, ((y, x),))


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 23), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 4),
)
def test_every_click_holds(seed: int, clicks: list[tuple[int, int, bool]], radius: int) -> None:
    predicted = np.random.default_rng(seed).random(SLICE).astype(np.float32)
    result = enforce(predicted, [click(*c) for c in clicks], radius)
    wanted = {(y, x): positive for y, x, positive in clicks}
    assert {p: bool(result[p] > 0.5) for p in wanted} == wanted
    assert result.min() >= 0
    assert result.max() <= 1


def test_an_obedient_prediction_is_left_alone() -> None:
    predicted = np.random.default_rng(1).random(SLICE).astype(np.float32)
    predicted[3, 4], predicted[5, 6] = 0.51, 0.5
    result = enforce(predicted, [click(3, 4), click(5, 6, False)])
    assert np.array_equal(result, predicted)
    assert result is not predicted


def test_small_disc_around_a_click_that_was_not_obeyed() -> None:
    result = enforce(np.zeros(SLICE, np.float32), [click(10, 10), click(10, 12, False)], 2)
    assert (result > 0.5).sum() == 12  # the disc of 13 pixels without the other click
    assert not result[10, 12]
    result = enforce(np.ones(SLICE, np.float32), [click(10, 10, False)], 0)
    assert (result <= 0.5).sum() == 1


def test_box_cuts_and_lasso_erases() -> None:
    full = np.ones(SLICE, np.float32)
    box = Prompt2D("box", True, ((5, 5), (9, 9)))
    assert (enforce(full, [box]) > 0.5).sum() == 25
    assert (enforce(full, [box, click(15, 15)]) > 0.5).all(), "a mark outside means the box was too small"
    assert (enforce(full, [box, click(15, 15, False)]) > 0.5).sum() == 25
    hole = Prompt2D("lasso", False, ((6, 6), (6, 8), (8, 8), (8, 6)))
    assert (enforce(full, [box, hole]) > 0.5).sum() == 16
    assert enforce(full, [hole, click(7, 7)])[7, 7] == 1, "the later prompt holds"


def test_scribbles_hold_on_every_pixel() -> None:
    line = Prompt2D("scribble", True, ((2, 2), (2, 20)))
    result = enforce(np.zeros(SLICE, np.float32), [line, click(2, 10, False)])
    assert (result[2, 2:10] > 0.5).all()
    assert result[2, 10] <= 0.5


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([], None),
        ([Click((1, 2, 3)), None, Box((4, 1, 1), (4, 9, 9))], None),  # a flat box
        ([Click((1, 2, 3)), BOX], ((3, 9), (10, 24), (12, 26))),
        ([BOX, Click((1, 2, 30))], ((1, 9), (2, 24), (12, 30))),
        ([BOX, Click((1, 2, 30), False)], ((3, 9), (10, 24), (12, 26))),
        ([BOX, Scribble(((5, 5, 20), (5, 30, 20)))], ((3, 9), (5, 30), (12, 26))),
        ([BOX, MaskPrompt(BitMask.of(STATED), 4)], ((3, 9), (10, 37), (12, 26))),
        ([BOX, MaskPrompt(BitMask.of(STATED & False), 11)], ((3, 9), (10, 24), (12, 26))),  # nothing is there
        ([BOX, Click((1, 2, 30)), Box((0, 0, 0), (2, 3, 4))], ((0, 2), (0, 3), (0, 4))),
    ],
)
def test_the_last_thick_box_and_what_is_marked_after_it(prompts, expected) -> None:
    assert extent_of([Round(prompt, 0) for prompt in prompts], SHAPE, 0) == expected


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_lies_outside_a_box(axis: int) -> None:
    truth = phantom() >= 100
    low, high = (5, 14, 18), (8, 22, 27)
    case = fake_case(axis=axis)
    mask = case.box(low, high)
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    assert mask.any()
    assert not (mask & ~inside).any()
    assert (truth & ~inside).any(), "there would have been more"
    mask = case.click((6, 12, 24))  # outside: the box was too small
    assert mask[6, 12, 24]
    case.undo()
    assert not (case.mask & ~inside).any()


def test_suggestions_stay_in_the_box() -> None:
    case = fake_case()
    case.box((5, 10, 12), (7, 28, 34))
    assert case.suggest(skip=[7]).index == 5
    assert case.suggest(skip=[5, 7]).index in (4, 8)


def test_rounds_with_nothing_to_propagate_can_be_cancelled() -> None:
    case = fake_case(phantom()[6:7])
    with pytest.raises(Cancelled):
        case.click((0, 20, 24), progress=lambda done, total: False)
    assert not case.mask.any()
    assert not case.rounds


def test_supported() -> None:
    assert supported({3: True}, 8) == set(range(8))
    assert supported({3: True, 5: False}, 8) == {0, 1, 2, 3, 4, 5}
    assert supported({5: False}, 8) == {5}
    assert supported({1: False, 3: True, 5: False, 7: True}, 9) == {1, 2, 3, 4, 5, 6, 7, 8}
    assert supported({5: False}, 8, anchor=2) == {0, 1, 2, 3, 4, 5}
    assert supported({3: True}, 8, bounds=(2, 4)) == {2, 3, 4}
    assert supported({}, 3) == set()


@pytest.mark.parametrize(
    ("filled", "origin", "scope", "expected"),
    [
        ({3: True, 5: False, 1: False}, 3, "volume", range(2, 5)),
        ({3: True, 5: True}, 3, "volume", range(8)),
        ({3: True, 5: False}, 3, "interval", range(5)),
        ({2: True, 5: False}, 5, "interval", range(3, 6)),
        ({5: False}, 5, "interval", range(5, 6)),
    ],
)
def test_reach(filled, origin, scope, expected) -> None:
    assert reach(filled, origin, 8, scope) == expected


# planes across the slices


TRUTH = phantom() > 100


def sagittal(pixels: dict[int, range], column: int = 24) -> np.ndarray:
    """Painted voxels on the plane x = column: slice to rows."""
    painted = np.zeros(SHAPE, bool)
    for index, rows in pixels.items():
        painted[index, rows, column] = True
    return painted


def test_which_prompts_lie_on_another_plane() -> None:
    box = Box((2, 10, 24), (9, 30, 24))
    plane = plane_of(box, SHAPE, 0)
    assert plane is not None
    assert (plane.axis, plane.index, plane.part.points) == (2, 24, ((2, 10), (9, 30)))
    assert (plane.extent(0), plane.extent(1)) == ((2, 9), (10, 30))
    assert plane_of(box, SHAPE, 2) is None, "on a slice of the case"
    assert plane_of(box, SHAPE, 1).axis == 2
    assert plane_of(Box((2, 10, 20), (9, 30, 24)), SHAPE, 0) is None
    assert plane_of(Box((2, 10, 20), (2, 10, 24)), SHAPE, 0) is None, "a line on one slice"
    outline = Lasso(((2, 10, 24), (9, 10, 24), (9, 30, 24)))
    assert plane_of(outline, SHAPE, 0).axis == 2
    assert plane_of(outline, SHAPE, 2) is None
    assert plane_of(Click((1, 2, 3)), SHAPE, 0) is None


@pytest.mark.parametrize("propagate", [True, False])
@pytest.mark.parametrize("slices", [range(3, 9), range(5, 7)])
def test_a_stroke_through_the_slices_holds_on_all_of_them(propagate: bool, slices: range) -> None:
    case = fake_case()
    painted = sagittal({i: range(19, 22) for i in slices})
    mask = case.scribble(painted, propagate=propagate)
    assert mask[painted].all()
    assert case.prompted == tuple(slices)
    if not propagate:
        mask = case.propagate()
        assert mask[painted].all()
    assert np.array_equal(mask, TRUTH)
    case._engine.propagator.threshold = 1000.0
    later = case.click((1, 1, 1), False)
    assert later[painted].all()


def test_only_some_slices_are_answered_before_the_others_are_carried_to() -> None:
    case = fake_case()
    case.scribble(sagittal({i: range(20, 21) for i in range(3, 9)}))
    predictor, propagator = case._engine.predictor, case._engine.propagator
    assert len(predictor.calls) == ANSWERED, "what is carried to the others holds the stroke already"
    assert len(propagator.calls) == 1
    assert propagator.calls[0][0] in (5, 6), "from the middle"


def test_a_stroke_that_is_missed_is_answered_from_what_is_carried() -> None:
    case = fake_case()
    painted = sagittal({i: range(20, 21) for i in range(2, 11)}) | sagittal({10: range(1, 4)}, 2)
    mask = case.scribble(painted)
    assert mask[painted].all()


@pytest.mark.parametrize("how", ["painted", "line", "outline"])
@pytest.mark.parametrize("propagate", [True, False])
def test_what_is_taken_away_across_the_slices_stays_away_until_it_is_marked(how: str, propagate: bool) -> None:
    case = fake_case(np.minimum(phantom(), 200))
    case.click((6, 20, 24))
    wrong = sagittal({i: range(20, 21) if how == "line" else range(12, 29) for i in (5, 6, 7)}, 30)
    assert (case.mask & wrong).any()
    if how == "outline":
        outline = [(5, 12, 30), (5, 28, 30), (7, 28, 30), (7, 12, 30)]
        case.lasso(outline, positive=False, propagate=propagate)
    else:
        given = wrong if how == "painted" else [(5, 20, 30), (7, 20, 30)]
        case.scribble(given, positive=False, propagate=propagate)
    assert case.prompted == (6,), "a click in the middle"
    assert case.rounds[-1].marks == (Click((6, 20, 30), False),)
    assert not (case.mask & wrong).any()
    if not propagate:
        assert not (case.propagate() & wrong).any()
    case.click((9, 20, 24))
    assert not (case.mask & wrong).any()
    mask = case.click((5, 20, 30))
    assert mask[5, 20, 30]
    assert mask[7, 20, 30], "the stroke was taken back"
    case.undo()
    assert not (case.mask & wrong).any()


def test_a_negative_stroke_on_one_slice_is_a_prompt_of_it() -> None:
    case = fake_case(np.minimum(phantom(), 200))
    case.click((6, 20, 24))
    case.scribble([(5, 20, 24), (5, 20, 30)], positive=False)
    assert not case.rounds[-1].marks
    assert not case.mask[5, 20, 24:31].any()


def test_negative_strokes_on_several_slices_in_one_mask_are_prompts_of_each() -> None:
    case = fake_case(np.minimum(phantom(), 200))
    case.click((6, 20, 24))
    painted = sagittal({4: range(14, 19)}, 24) | sagittal({8: range(19, 23)}, 28)
    mask = case.scribble(painted, positive=False)
    assert not case.rounds[-1].marks
    assert case.prompted == (4, 6, 8)
    assert not (mask & painted).any()


def test_a_start_mask_is_not_cut_by_what_was_taken_away_before() -> None:
    case = fake_case(np.minimum(phantom(), 200))
    case.click((6, 20, 24))
    case.scribble([(5, 20, 30), (7, 20, 30)], positive=False)
    case.set_mask(TRUTH, frozen=False)
    assert case.mask[5, 20, 30]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_click_is_in_the_middle_of_what_goes(axis: int) -> None:
    """Of a wide piece with a thin tail the deepest voxel, of a line its middle; outside of the mask it is no worse."""
    mask = np.ones((20, 20, 20), bool)
    piece = np.zeros_like(mask)
    flat = np.moveaxis(piece, axis, 0)[4]
    flat[3:12, 2:11] = flat[7, 11:19] = True
    expected = [7, 6]
    expected.insert(axis, 4)
    assert negative_click(np.argwhere(piece), mask).point == tuple(expected)
    line = np.array([[5, y, 7] for y in range(3, 12)])
    assert negative_click(line, mask).point == (5, 7, 7)
    mask[:, :8] = False
    assert negative_click(line, mask).point[1] in (9, 10)
    assert negative_click(line, ~np.ones_like(mask)) == Click((5, 7, 7), False)


def test_slices_that_say_so_already_are_left_as_they_are() -> None:
    case = fake_case()
    case.click((6, 20, 24))
    before, calls = case.probability, len(case._engine.predictor.calls)
    case.scribble(sagittal({i: range(19, 22) for i in (4, 5, 7)}), propagate=False)
    assert np.array_equal(case.probability, before)
    assert len(case._engine.predictor.calls) == calls


def box_on(plane: int, low: tuple[int, int], high: tuple[int, int], at: int) -> tuple[list[int], list[int]]:
    lo, hi = list(low), list(high)
    lo.insert(plane, at)
    hi.insert(plane, at)
    return lo, hi


@pytest.mark.parametrize("shape", ["box", "lasso"])
def test_a_first_box_on_another_plane_bounds_the_object_there(shape: str) -> None:
    case = fake_case(np.minimum(phantom(), 200))
    lo, hi = (4, 12, 24), (8, 26, 24)
    if shape == "box":
        mask = case.box(lo, hi)
    else:
        mask = case.lasso([(4, 12, 24), (8, 12, 24), (8, 26, 24), (4, 26, 24)])
    assert case.bounds == (4, 8)
    assert mask.any()
    outside = np.ones(SHAPE, bool)
    outside[4:9, 12:27] = False
    assert not (mask & outside).any()
    assert np.array_equal(mask[4:9, 12:27], TRUTH[4:9, 12:27]), "nothing is said of the direction across the plane"
    assert case.rounds[0].marks
    assert 1 <= len(case.prompted) <= ANSWERED + 1
    case.click((1, 20, 24))
    assert case.bounds == (1, 8)


def test_a_later_one_takes_nothing_away() -> None:
    case = fake_case()
    before = case.click((6, 20, 24))
    for mask in (
        case.box((7, 18, 24), (10, 22, 24)),
        case.lasso([(7, 18, 24), (10, 18, 24), (10, 22, 24), (7, 22, 24)]),
    ):
        assert case.bounds is None
        assert not (before & ~mask).any()


def test_a_negative_lasso_on_another_plane_is_background() -> None:
    case = fake_case()
    case.click((6, 20, 24))
    mask = case.lasso([(4, 10, 24), (8, 10, 24), (8, 19, 24), (4, 19, 24)], positive=False)
    assert not mask[4:9, 10:20, 24].any()
    assert mask[4:9, 22:25, 20].any()


def test_a_lasso_that_lies_on_no_plane() -> None:
    case = fake_case()
    with pytest.raises(InputError, match="one plane across"):
        case.lasso([(4, 10, 24), (8, 11, 25), (8, 19, 24)])
    assert not case.rounds


def test_extent_of_a_box_on_another_plane() -> None:
    box, click = Box((2, 10, 24), (9, 30, 24)), Click((1, 2, 3))
    assert extent_of([Round(box, 5)], SHAPE, 0) == extent_of([Round(box, 5)], SHAPE, 1) == ((2, 9), (10, 30), (0, 47))
    assert extent_of([Round(click, 1), Round(box, 5)], SHAPE, 0) is None
    assert extent_of([Round(box, 5), Round(click, 1)], SHAPE, 0) == ((1, 9), (2, 30), (0, 47))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sessions_keep_them(axis: int, tmp_path: Path) -> None:
    segmenter = small_segmenter()

    def steps(case: Case) -> None:
        case.box((2, 8, 20), (11, 24, 20))
        case.scribble([(2, 16, 20), (11, 16, 20)])
        case.lasso([(4, 20, 10), (9, 20, 10), (9, 20, 16)], positive=False)
        case.scribble(Scribble(((3, 4, 20), (9, 4, 20)), False).points, positive=False)

    case = segmenter.open(phantom((14, 32, 40)), axis=axis)
    steps(case)
    again = segmenter.resume(case.save_session(tmp_path / "x.limnet"))
    assert seen(again) == seen(case)
    for each in (case, again):
        each.click((7, 10, 30))
    assert seen(again) == seen(case)
    while case.rounds:
        case.undo()
    assert not case.mask.any()
