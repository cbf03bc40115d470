"""Refinements: earlier clicks predicted again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from limnet.case.case import restore
from limnet.case.session import read_session
from limnet.settings import Settings
from tests.helpers.fake_engine import fake_case

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
