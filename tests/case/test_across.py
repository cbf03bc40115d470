from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limnet.case.across import joined, look_across
from limnet.case.case import Case
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.settings import Settings
from tests.helpers.fake_engine import ThresholdPredictor, fake_case, fake_engine

SETTINGS = Settings(scope="interval", look_across=True)


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
        fake_case(two_balls(), settings=SETTINGS),
    )
    point = (5, 20, 24)
    assert plain.click(point)[12:17].any()  # the threshold runs on into the other block
    mask = across.click(point)
    assert sorted(set(np.nonzero(mask)[0])) == [3, 4, 5, 6, 7, 8]
    assert across._engine.propagator.within == (3, 8)
    assert plain._engine.propagator.within is None


def test_a_positive_click_elsewhere_widens_the_reach_and_others_do_not_look() -> None:
    case = fake_case(two_balls(), settings=SETTINGS)
    case.click((5, 20, 24))
    looks = len(case._engine.predictor.calls)
    case.click((7, 12, 14))
    assert len(case._engine.predictor.calls) == looks + 1  # inside: only the slice itself
    mask = case.click((14, 20, 24))
    assert case._state.reach == (3, 16)
    assert mask[3:9].any()
    assert mask[12:17].any()
    case.click((10, 2, 2), positive=False)
    assert case._state.reach == (3, 16)
    case.undo()
    case.undo()
    assert case._state.reach == (3, 8)


def test_the_reach_is_kept_in_session_files(tmp_path: Path) -> None:
    from limnet.case.session import read_session, restore

    case = fake_case(two_balls(), settings=SETTINGS)
    case.click((5, 20, 24))
    case.save_session(tmp_path / "a.limnet")
    again: Case = restore(read_session(tmp_path / "a.limnet"), fake_engine())
    assert again._state.reach == (3, 8)
    assert again.settings.look_across


def test_off_by_default_and_checked() -> None:
    assert not Settings().look_across
    with pytest.raises(Exception, match="look_across is 1"):
        Settings(look_across=1)  # type: ignore[arg-type]
