from __future__ import annotations

import numpy as np
import pytest

from limnet.interaction.predictor import settle_negative_click
from limnet.prompts import Prompt2D


def click(y: int, x: int, positive: bool = False) -> Prompt2D:
    return Prompt2D("click", positive, ((y, x),))


def bar(columns: slice = slice(5, 45)) -> np.ndarray:
    mask = np.zeros((30, 50), np.float32)
    mask[8:22, columns] = 0.9
    return mask


EMPTY = np.zeros((30, 50), np.float32)


def test_a_click_in_the_middle_leaves_no_crumbs() -> None:
    after = EMPTY.copy()
    after[8:10, 5:9] = 0.8
    result = settle_negative_click(bar(), after, [click(15, 25)])
    assert not (result > 0.5).any()
    assert (after > 0.5).any(), "the input is not changed"


def test_a_crumb_with_a_positive_click_stays() -> None:
    after = EMPTY.copy()
    after[8:10, 5:9] = 0.8
    result = settle_negative_click(bar(), after, [click(9, 6, positive=True), click(15, 25)])
    assert np.array_equal(result, after)


def test_a_large_rest_is_no_crumb() -> None:
    after = bar(slice(5, 25))
    assert np.array_equal(settle_negative_click(bar(), after, [click(15, 35)]), after)


def test_a_click_off_the_middle_takes_only_its_side() -> None:
    before = bar()
    before[10:20, 45:49] = 0.9  # a thinner part grown on: the click lies in it
    result = settle_negative_click(before, EMPTY, [click(11, 47)]) > 0.5
    assert result[15, 20], "the body of the mask stays"
    assert not result[11, 47]
    assert not result[15, 48]


@pytest.mark.parametrize(
    "prompts",
    [[], [click(15, 25, positive=True)], [click(1, 1)], [Prompt2D("scribble", False, ((15, 25), (15, 26)))]],
)
def test_other_prompts_change_nothing(prompts: list[Prompt2D]) -> None:
    assert settle_negative_click(bar(), EMPTY, prompts) is EMPTY


def test_other_pieces_are_left_alone() -> None:
    before = bar(slice(5, 20))
    before[10:14, 40:44] = 0.9
    after = np.where(np.arange(50) >= 40, before, 0).astype(np.float32)
    result = settle_negative_click(before, after, [click(15, 12)])
    assert np.array_equal(result, after)


def test_where_the_object_surely_is_a_click_anywhere_takes_a_part() -> None:
    clicked = [click(13, 35)]  # as deep as a bar gets, but for one row
    assert not (settle_negative_click(bar(), EMPTY, clicked) > 0.5).any()
    result = settle_negative_click(bar(), EMPTY, clicked, surely=True) > 0.5
    assert not result[13, 35]
    assert result[15, 10]
    after = bar(slice(5, 30))  # a network that keeps most of it is believed
    assert settle_negative_click(bar(), after, clicked, surely=True) is after
