"""Updates for a screen: what they add up to is what the round returns, and a cancelled round leaves no traces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.errors import Cancelled, InputTypeError
from tests.helpers.fake_engine import fake_case, fake_engine, phantom
from tests.helpers.small_segmenter import blob, seen, small_segmenter

SHAPE = (14, 32, 40)
CENTRE = (7, 16, 20)


class Screen:
    """Pastes what it is told into the mask it began with."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask, self.told = mask.copy(), []

    def __call__(self, box: Any, mask: np.ndarray, done: int, total: int) -> None:
        assert mask.dtype == bool
        assert mask.shape == tuple(end - first for first, end in box)
        self.told.append((box, done, total))
        self.mask[tuple(slice(*side) for side in box)] = mask


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return small_segmenter()


@pytest.mark.parametrize("scope", ["volume", "interval"])
@pytest.mark.parametrize("axis", [0, 2])
def test_what_a_screen_pastes_is_the_mask_of_a_silent_round(
    segmenter: InteractiveSegmenter, scope: str, axis: int
) -> None:
    loud, silent = (segmenter.open(phantom(SHAPE), axis=axis, settings={"scope": scope}) for _ in range(2))
    steps = [
        lambda case, **o: case.click(CENTRE, **o),
        lambda case, **o: case.click((2, 14, 18), **o),
        lambda case, **o: case.set_mask(np.moveaxis(blob(SHAPE), axis, 0)[5], index=5, **o),
        lambda case, **o: case.click((11, 3, 4), False, propagate=False, **o),
        lambda case, **o: case.box((3, 4, 4), (9, 28, 30), **o),
        lambda case, **o: case.propagate(**o),
        lambda case, **o: case.set_mask(blob(SHAPE), frozen=False, **o),
    ]
    for step in steps:
        screen = Screen(loud.mask)
        mask = step(loud, on_update=screen)
        assert np.array_equal(mask, step(silent))
        assert np.array_equal(screen.mask, mask)
        assert seen(loud) == seen(silent)


def test_the_prompted_slice_comes_first_then_chunks_then_corrections() -> None:
    engine = fake_engine(p={3: 1.0})  # fusion keeps slice 3 of the round before
    case = fake_case(phantom((30, 40, 48)), engine=engine)
    screen = Screen(case.mask)
    case.click((15, 20, 24), on_update=screen)
    boxes = [box[0] for box, _, _ in screen.told]
    assert boxes[0] == (15, 16)
    assert all(end - first <= 8 for first, end in boxes)
    assert 3 <= len(boxes) <= 8
    assert [done for _, done, _ in screen.told] == sorted(done for _, done, _ in screen.told)
    assert screen.told[0][2] == 0
    assert screen.told[-1][2] == 29


def test_voxels_of_finished_objects_are_not_shown() -> None:
    case = fake_case()
    other = case.object("core")
    other.set_mask(phantom() > 230)
    other.finish()
    screen = Screen(case.mask)
    mask = case.click((6, 20, 10), on_update=screen)
    assert np.array_equal(screen.mask, mask)
    assert not (screen.mask & other.mask).any()


def test_cancelling_at_any_moment_leaves_the_case_as_it_was(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))
    case.click((2, 16, 20))
    inner = phantom(SHAPE)[7] > 230
    before, calls = seen(case), 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    case.set_mask(inner, index=7, on_update=count)
    case.undo()
    assert calls > 1
    for stop in range(calls):
        left = stop

        def refuse(*_: Any) -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        with pytest.raises(Cancelled, match="on_update"):
            case.set_mask(inner, index=7, on_update=refuse)
        assert seen(case) == before


def test_on_update_is_a_function() -> None:
    case = fake_case()
    with pytest.raises(InputTypeError, match="on_update must be a function"):
        case.click(CENTRE, on_update=3)  # type: ignore[arg-type]
    assert not case.rounds
