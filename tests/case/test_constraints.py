"""Constraints: clicks and strokes hold, boxes bound the object, empty prompted slices end it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.case.constraints import enforce, extent_of, reach, supported
from limnet.case.state import Round
from limnet.errors import Cancelled
from limnet.image.slices import BitMask
from limnet.prompts import Box, Click, MaskPrompt, Prompt2D, Scribble
from tests.helpers.fake_engine import fake_case, phantom

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
