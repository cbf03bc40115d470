"""Constraints: clicks and strokes hold, boxes bound the object, empty prompted slices end it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.case.constraints import between, enforce, frame_of, framed, separated, supported
from limnet.case.history import Round
from limnet.errors import Cancelled, InputError
from limnet.image.bitmask import BitMask
from limnet.prompts import Box, Click, MaskPrompt, Prompt2D, Scribble
from tests.helpers.fake_engine import fake_case, phantom

SLICE = (20, 24)
SHAPE = (12, 40, 48)
BOX = Box((3, 10, 12), (9, 24, 26))


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


def rounds(*prompts):
    return [Round(prompt, 0) for prompt in prompts]


def test_the_last_thick_box_and_what_is_marked_after_it() -> None:
    assert frame_of([], SHAPE, 0) is None
    assert frame_of(rounds(Click((1, 2, 3)), None, Box((4, 1, 1), (4, 9, 9))), SHAPE, 0) is None, "a flat box"
    assert frame_of(rounds(Click((1, 2, 3)), BOX), SHAPE, 0) == (slice(10, 25), slice(12, 27))
    assert frame_of(rounds(BOX), SHAPE, 1) == (slice(3, 10), slice(12, 27))
    assert frame_of(rounds(BOX, Click((1, 2, 30))), SHAPE, 0) == (slice(2, 25), slice(12, 31))
    assert frame_of(rounds(BOX, Click((1, 2, 30), False)), SHAPE, 0) == (slice(10, 25), slice(12, 27))
    stroke = Scribble(((5, 5, 20), (5, 30, 20)))
    assert frame_of(rounds(BOX, stroke), SHAPE, 0) == (slice(5, 31), slice(12, 27))
    stated = np.zeros(SHAPE[1:], bool)
    stated[20:38, 14:16] = True
    assert frame_of(rounds(BOX, MaskPrompt(BitMask.of(stated), 4)), SHAPE, 0) == (slice(10, 38), slice(12, 27))
    again = Box((0, 0, 0), (2, 3, 4))
    assert frame_of(rounds(BOX, Click((1, 2, 30)), again), SHAPE, 0) == (slice(0, 4), slice(0, 5))


def test_outside_the_frame_is_nothing() -> None:
    probability = np.ones((4, 5), np.float32)
    assert framed(probability, None) is probability
    assert framed(probability, (slice(1, 3), slice(0, 2))).sum() == 4
    assert probability.all()


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
    with pytest.raises(InputError, match="there is none left to suggest"):
        case.suggest(skip=range(12))


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


def test_separated() -> None:
    assert separated({3: True, 5: False, 1: False}, 3, 8) == range(2, 5)
    assert separated({3: True, 5: True}, 3, 8) == range(8)


def test_between() -> None:
    assert between({3: True, 5: False}, 3, 8) == range(5)
    assert between({2: True, 5: False}, 5, 8) == range(3, 6)
    assert between({5: False}, 5, 8) == range(5, 6)
