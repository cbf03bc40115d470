"""Refinements: earlier clicks predicted again, and the extent that orthogonal planes show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limnet.case.refinement import joined, look_across
from limnet.case.session import read_session, restore
from limnet.case.session_states import _round_from_json, _round_to_json
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.settings import Settings
from tests.helpers.fake_engine import ThresholdPredictor, fake_case, fake_engine

ON = Settings(scope="interval", look_back=4)
ACROSS = Settings(scope="interval", look_across=True)
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
    assert case._engine.propagator.carried == [(4, 6, (4,))], "carried without what the slice itself said so far"
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
    older = _round_to_json(case.rounds[1])
    assert _round_from_json(older) == case.rounds[1]
    del older["reanswered"]
    assert _round_from_json(older) == replace(case.rounds[1], reanswered=())


def test_off_by_default() -> None:
    case = started(Settings(scope="interval"))
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 12 * 14
    assert case._engine.propagator.carried == []


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
    carried = len(case._engine.propagator.carried)
    case.click((3, 9, 12))
    assert [c[:2] for c in case._engine.propagator.carried[carried:]] == [(3, 5)]


def test_an_emptied_slice_says_nothing_and_is_not_asked() -> None:
    case = started()
    predict = case._engine.predictor.predict
    case._engine.predictor.predict = lambda *told: predict(*told) * (told[1] != 4)
    case.click((4, 20, 24), positive=False)
    assert not case.mask[4].any()
    assert case._engine.propagator.carried == []
    case.click((3, 9, 12))
    assert case._engine.propagator.carried == []


def test_prompts_of_one_propagation_do_not_change_each_other() -> None:
    case = fake_case(core_and_more(), settings=ON)
    case.click(FIRST, propagate=False)
    case.click((4, 9, 12), propagate=False)
    case.propagate()
    assert case.mask[6].sum() == 12 * 14
    assert case._engine.propagator.carried == [], "nothing is carried in vain"


def test_the_clicks_of_the_slice_are_obeyed() -> None:
    case = started()
    predict = case._engine.predictor.predict

    def forgetful(view: Any, index: int, prompts: Any, previous: Any, nearest: Any = None) -> np.ndarray:
        result = predict(view, index, prompts, previous, nearest)
        if index == 6:
            result[20, 24] = 0.0
        return result

    case._engine.predictor.predict = forgetful
    case.click((4, 9, 12))
    assert case.mask[6].sum() == 24 * 28
    assert case.mask[6, 20, 24]


def two_balls() -> np.ndarray:
    """Bright blocks on slices 3..8 and 12..16 of 20, side by side in the plane, so that a sweep runs into the other."""
    volume = np.zeros((20, 40, 48), np.int16)
    volume[3:9, 10:30, 12:36] = 200
    volume[12:17, 10:30, 12:36] = 200
    return volume


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("start", [3, 6, 8])
def test_the_reach_is_that_of_the_piece_at_the_click(axis: int, start: int) -> None:
    array = np.moveaxis(two_balls(), 0, axis)
    view = SliceView(Volume.from_array(array), axis)
    assert look_across(ThresholdPredictor(), view, start, (20, 24)) == (3, 8)
    assert look_across(ThresholdPredictor(), view, 13, (11, 35)) == (12, 16)


def test_both_planes_count() -> None:
    array = np.zeros((20, 40, 48), np.int16)
    array[8:12, 10:30, 12:36] = 200
    array[4:12, 20, 24:30] = 200  # only the plane that keeps the row sees this
    array[8:15, 12:20, 24] = 200  # only the other one sees this
    view = SliceView(Volume.from_array(array), 0)
    planes = ThresholdPredictor()
    look_across(planes, view, 9, (20, 24))
    assert [call[0] for call in planes.calls] == [20, 24]
    assert look_across(ThresholdPredictor(), view, 9, (20, 24)) == (4, 14)


def test_nothing_to_see() -> None:
    flat = SliceView(Volume.from_array(two_balls()[4:6]), 0)
    assert look_across(ThresholdPredictor(), flat, 1, (20, 24)) is None
    film = SliceView(Volume.from_array(np.repeat(two_balls()[..., None], 3, -1).astype(np.uint8)), 0)
    assert look_across(ThresholdPredictor(), film, 5, (20, 24)) is None

    class Blind(ThresholdPredictor):
        def predict(self, view: Any, index: int, prompts: Any, previous: Any, nearest: Any = None) -> np.ndarray:
            return np.zeros(view.shape, np.float32)

    assert look_across(Blind(), SliceView(Volume.from_array(two_balls()), 0), 5, (20, 24)) is None


def test_joined() -> None:
    assert joined((3, 8), (5, 12)) == (3, 12)


def test_a_sweep_ends_where_the_object_does() -> None:
    plain, across = (
        fake_case(two_balls(), settings=Settings(scope="interval")),
        fake_case(two_balls(), settings=ACROSS),
    )
    point = (5, 20, 24)
    assert plain.click(point)[12:17].any()  # the threshold runs on into the other block
    mask = across.click(point)
    assert sorted(set(np.nonzero(mask)[0])) == [3, 4, 5, 6, 7, 8]
    assert across._engine.propagator.extent == (3, 8)
    assert plain._engine.propagator.extent is None


def test_a_positive_click_elsewhere_widens_the_reach_and_others_do_not_look() -> None:
    case = fake_case(two_balls(), settings=ACROSS)
    case.click((5, 20, 24))
    looks = len(case._engine.predictor.calls)
    case.click((7, 12, 14))
    assert len(case._engine.predictor.calls) == looks + 1  # inside: only the slice itself
    mask = case.click((14, 20, 24))
    assert case._state.extent == (3, 16)
    assert mask[3:9].any()
    assert mask[12:17].any()
    case.click((10, 2, 2), positive=False)
    assert case._state.extent == (3, 16)
    case.undo()
    case.undo()
    assert case._state.extent == (3, 8)


def test_the_reach_is_kept_in_session_files(tmp_path: Path) -> None:
    case = fake_case(two_balls(), settings=ACROSS)
    case.click((5, 20, 24))
    case.save_session(tmp_path / "a.limnet")
    again = restore(read_session(tmp_path / "a.limnet"), fake_engine())
    assert again._state.extent == (3, 8)
    assert again.settings.look_across
