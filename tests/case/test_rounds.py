"""Slices after their round: single clicks answered anew, and accepted ones as they were, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limnet.case.case import restore
from limnet.case.session import read_session
from limnet.errors import InputError, OutsideError
from limnet.settings import Settings
from tests.helpers.fake_engine import fake_case, phantom
from tests.helpers.small_segmenter import small_segmenter

ON = Settings(scope="interval", look_back=4)
FIRST = (6, 20, 24)


def core_and_more() -> np.ndarray:
    """A block of 200 on slices 2..9 of 12 with a core of 240: a click on the core takes the core alone."""
    volume = np.zeros((12, 40, 48), np.int16)
    volume[2:10, 8:32, 10:38] = 200
    volume[2:10, 14:26, 16:30] = 240
    return volume


def started(settings: Settings = ON) -> Any:
    case = fake_case(core_and_more(), settings=settings)
    case.click(FIRST)
    assert case.mask[6].sum() == 12 * 14
    return case


def test_a_click_is_answered_anew_from_what_the_next_prompt_says() -> None:
    case = started()
    case.click((4, 9, 12))  # on the block: all of it is meant
    assert case.mask[6].sum() == 24 * 28
    assert case._engine.propagator.reached == [(4, 6, (4,))], "carried without what the slice itself said so far"
    index, told, previous = case._engine.predictor.calls[-1]
    assert (index, [p.points for p in told]) == (6, [((20, 24),)])
    assert previous is not None
    assert (previous > 0.5).sum() == 24 * 28
    assert [done.reanswered for done in case.rounds] == [(), (6,)]
    case.undo()
    assert case.mask[6].sum() == 12 * 14


def test_sessions_keep_which_slices_were_answered_anew(tmp_path: Path) -> None:
    case = started()
    case.click((4, 9, 12))
    case.save_session(tmp_path / "case.limnet")
    session = read_session(tmp_path / "case.limnet", core_and_more())
    assert [done.reanswered for done in restore(session, case._engine).rounds] == [(), (6,)]


def test_off_by_default() -> None:
    case = started(Settings(scope="interval"))
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 12 * 14
    assert case._engine.propagator.reached == []


def test_only_where_both_networks_agree() -> None:
    case = started()
    case._engine.propagator.threshold = 300.0  # carries nothing
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 12 * 14
    case = started()
    case._engine.propagator.threshold = -1.0  # carries the whole slice, of which the answer keeps all
    case.click((4, 9, 12))
    assert case.mask[6].all()
    case = started()
    predict = case._engine.predictor.predict
    case._engine.predictor.predict = lambda *told: predict(*told) * (told[1] != 6)
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 12 * 14


def test_slices_the_user_worked_on_stay_as_they_are() -> None:
    for work in ("second click", "scribble", "mask"):
        case = started()
        if work == "second click":
            case.click((6, 18, 20))
        elif work == "scribble":
            case = fake_case(core_and_more(), settings=ON)
            case.scribble([(6, 20, 24), (6, 20, 26)])
        else:
            case.set_mask(case.mask[6], index=6)
        before = case.mask[6]
        case.click((4, 9, 12))
        assert np.array_equal(case.mask[6], before), work


def test_neither_far_slices_nor_slices_behind_another_prompt() -> None:
    case = started(Settings(scope="interval", look_back=1))
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 12 * 14
    case = started()
    case.click((5, 20, 24))
    carried = len(case._engine.propagator.reached)
    case.click((3, 9, 12))
    assert [c[:2] for c in case._engine.propagator.reached[carried:]] == [(3, 5)]


def test_an_emptied_slice_says_nothing_and_is_not_asked() -> None:
    case = started()
    predict = case._engine.predictor.predict
    case._engine.predictor.predict = lambda *told: predict(*told) * (told[1] != 4)
    case.click((4, 20, 24), positive=False)
    assert not case.mask[4].any()
    assert case._engine.propagator.reached == []
    case.click((3, 9, 12))
    assert case._engine.propagator.reached == []


def test_prompts_of_one_propagation_do_not_change_each_other() -> None:
    case = fake_case(core_and_more(), settings=ON)
    case.click(FIRST, propagate=False)
    case.click((4, 9, 12), propagate=False)
    case.propagate()
    assert case.mask[6].sum() == 12 * 14
    assert case._engine.propagator.reached == [], "nothing is carried in vain"


def test_the_clicks_of_the_slice_are_obeyed() -> None:
    case = started()
    predict = case._engine.predictor.predict

    def forgetful(view: Any, index: int, prompts: Any, previous: Any, nearest: Any = None) -> np.ndarray:
        result = predict(view, index, prompts, previous)
        if index == 6:
            result[20, 24] = 0.0
        return result

    case._engine.predictor.predict = forgetful
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 24 * 28
    assert case.mask[6, 20, 24]


# accepted slices


def test_an_accepted_slice_stays_bit_for_bit() -> None:
    case = fake_case()
    case.click((6, 20, 24))
    probability, mask = case.probability, case.mask
    assert np.array_equal(case.accept(4), mask)
    assert np.array_equal(case.probability, probability)
    assert case.accepted == (4,)
    assert case.prompted == (4, 6)
    assert case.quality[4] == 1.0
    case._engine.propagator.threshold = 240.0
    case.click((8, 20, 24))
    assert np.array_equal(case.probability[4], probability[4])
    assert not np.array_equal(case.mask[3], mask[3])
    assert case.suggest().index != 4


def test_a_prompt_of_the_user_changes_it_again() -> None:
    case = fake_case()
    case.click((6, 20, 24))
    case.accept(4)
    case.click((4, 3, 3))
    assert case.accepted == ()
    assert case.mask[4, 3, 3]
    case.accept(4)
    case.set_mask(np.zeros((40, 48), bool), index=4)
    assert case.accepted == ()


def test_an_empty_slice_ends_the_object() -> None:
    case = fake_case()
    case.set_mask(phantom()[6] > 100, index=6, propagate=False)
    case.accept(9)
    mask = case.propagate()
    assert mask[8].any()
    assert not mask[9:].any()


def test_an_accepted_click_is_not_answered_anew(tmp_path: Path) -> None:
    segmenter = small_segmenter()
    case = segmenter.open(phantom((14, 32, 40)), settings={"look_back": 10, "scope": "interval"})
    case.click((5, 16, 20))
    case.accept(5)
    before = case.probability[5]
    case.click((8, 16, 20))
    assert np.array_equal(case.probability[5], before)
    assert case.rounds[-1].reanswered == ()
    again = segmenter.resume(case.save_session(tmp_path / "x.limnet"))
    assert again.accepted == case.accepted == (5,)
    assert again.rounds == case.rounds
    assert np.array_equal(again.click((11, 16, 20)), case.click((11, 16, 20)))


def test_what_cannot_be_accepted() -> None:
    case = fake_case()
    with pytest.raises(InputError, match="no result to accept"):
        case.accept(3)
    case.click((6, 20, 24))
    with pytest.raises(OutsideError, match="slice 12 is outside"):
        case.accept(12)
    case.finish()
    with pytest.raises(InputError, match="is finished"):
        case.accept(3)
