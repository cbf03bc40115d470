"""Other answers to the last prompt: found again at any time, taken in one step, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.case.alternatives import MOST, SAME, distinct
from limnet.errors import InputError
from limnet.prompts import Prompt2D
from tests.helpers.fake_engine import fake_case, phantom
from tests.helpers.small_segmenter import small_segmenter

CENTRE = (6, 20, 24)


def disc(radius: float, centre: tuple[int, int] = (30, 30), soft: bool = False) -> np.ndarray:
    y, x = np.ogrid[:60, :60]
    distance = np.hypot(y - centre[0], x - centre[1])
    if soft:
        return np.clip(0.5 + (radius - distance) / 20, 0, 1).astype(np.float32)
    return np.where(distance <= radius, 0.9, 0.1).astype(np.float32)


def test_answers_that_look_the_same_are_offered_once() -> None:
    click = [Prompt2D("click", True, ((30, 30),))]
    given = disc(10)
    found = distinct(given, [disc(10.2), disc(20), disc(5), disc(20.1)], click)
    assert [int((a > 0.5).sum()) for a in found] == [int((disc(r) > 0.5).sum()) for r in (5, 10, 20)]
    assert any(a is given for a in found)
    apart = np.maximum(disc(10), disc(6, (5, 50)))
    assert len(distinct(given, [apart], click)) == 1, "a piece without a click does not count"
    assert len(distinct(disc(12, soft=True), [disc(r) for r in range(2, 28)], click)) == MOST


def test_moving_the_border_gives_smaller_and_larger_ones() -> None:
    found = distinct(disc(12, soft=True), [], [Prompt2D("click", True, ((30, 30),))])
    radii = [np.sqrt((a > 0.5).sum() / np.pi) for a in found]
    # 0.5 + (12 - r) / 20 is above t where r < 12 + 20 (0.5 - t)
    assert np.allclose(radii, [4, 7, 12, 17, 20], atol=0.4)
    assert SAME > 0.9


def test_choosing_does_the_round_over() -> None:
    case = fake_case()
    case.click(CENTRE)
    given, rounds = case.mask, len(case.rounds)
    offered = case.alternatives()
    areas = [a.area for a in offered]
    assert areas == sorted(areas)
    assert len(offered) >= 2
    [present] = [i for i, a in enumerate(offered) if a.chosen]
    assert np.array_equal(offered[present].mask, given[6])
    other = 0 if present else 1
    mask = case.choose(other)
    assert np.array_equal(mask[6], offered[other].mask)
    assert mask[CENTRE]
    assert mask[5].any(), "propagated again"
    assert case.accepted == (6,)
    again = case.alternatives()
    assert [a.chosen for a in again] == [i == other for i in range(len(again))]
    assert [a.area for a in again] == areas
    assert np.array_equal(case.choose(present)[6], given[6])
    case.undo()
    assert np.array_equal(case.mask, mask)
    case.undo()
    assert np.array_equal(case.mask, given)
    assert len(case.rounds) == rounds


def test_a_chosen_answer_stays_and_is_kept(tmp_path: Path) -> None:
    segmenter = small_segmenter()
    case = segmenter.open(phantom((14, 32, 40)), settings={"scope": "interval", "look_back": 10})
    case.click((7, 16, 20), propagate=False)
    offered = case.alternatives()
    assert len(offered) > 1
    chosen = next(i for i, a in enumerate(offered) if not a.chosen)
    case.choose(chosen)
    before = case.probability[7]
    again = segmenter.resume(case.save_session(tmp_path / "x.limnet"))
    assert [a.chosen for a in again.alternatives()] == [i == chosen for i in range(len(offered))]
    for each in (case, again):
        each.click((10, 16, 20))
        assert np.array_equal(each.probability[7], before)
    assert np.array_equal(case.mask, again.mask)


def test_where_there_is_nothing_to_choose() -> None:
    case = fake_case()
    assert case.alternatives() == []
    with pytest.raises(InputError, match="no other answers"):
        case.choose(0)
    case.click(CENTRE)
    with pytest.raises(InputError, match=r"alternative 9 came: there are 0\.\."):
        case.choose(9)
    case.accept(3)
    assert case.alternatives() == [], "doing the round over would lose what was accepted"
    case.undo()
    assert case.alternatives()
    case.set_mask(phantom()[4] > 100, index=4)
    assert case.alternatives() == []
    case.undo()
    case.finish()
    assert case.alternatives() == []
