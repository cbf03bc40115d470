from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from limnet.case.compliance import enforce
from limnet.prompts import Prompt2D

SHAPE = (20, 24)


def click(y: int, x: int, positive: bool = True) -> Prompt2D:
    return Prompt2D("click", positive, ((y, x),))


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 23), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 4),
)
def test_every_click_holds(seed: int, clicks: list[tuple[int, int, bool]], radius: int) -> None:
    predicted = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    result = enforce(predicted, [click(*c) for c in clicks], radius)
    wanted = {(y, x): positive for y, x, positive in clicks}
    assert {p: bool(result[p] > 0.5) for p in wanted} == wanted
    assert result.min() >= 0
    assert result.max() <= 1


def test_an_obedient_prediction_is_left_alone() -> None:
    predicted = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    predicted[3, 4], predicted[5, 6] = 0.51, 0.5
    result = enforce(predicted, [click(3, 4), click(5, 6, False)])
    assert np.array_equal(result, predicted)
    assert result is not predicted


def test_small_disc_around_a_click_that_was_not_obeyed() -> None:
    result = enforce(np.zeros(SHAPE, np.float32), [click(10, 10), click(10, 12, False)], 2)
    assert (result > 0.5).sum() == 12  # the disc of 13 pixels without the other click
    assert not result[10, 12]
    result = enforce(np.ones(SHAPE, np.float32), [click(10, 10, False)], 0)
    assert (result <= 0.5).sum() == 1


def test_box_cuts_and_lasso_erases() -> None:
    full = np.ones(SHAPE, np.float32)
    box = Prompt2D("box", True, ((5, 5), (9, 9)))
    assert (enforce(full, [box]) > 0.5).sum() == 25
    assert (enforce(full, [box, click(15, 15)]) > 0.5).all(), "a mark outside means the box was too small"
    assert (enforce(full, [box, click(15, 15, False)]) > 0.5).sum() == 25
    hole = Prompt2D("lasso", False, ((6, 6), (6, 8), (8, 8), (8, 6)))
    assert (enforce(full, [box, hole]) > 0.5).sum() == 16
    assert enforce(full, [hole, click(7, 7)])[7, 7] == 1, "the later prompt holds"


def test_scribbles_hold_on_every_pixel() -> None:
    line = Prompt2D("scribble", True, ((2, 2), (2, 20)))
    result = enforce(np.zeros(SHAPE, np.float32), [line, click(2, 10, False)])
    assert (result[2, 2:10] > 0.5).all()
    assert result[2, 10] <= 0.5
