from __future__ import annotations

import numpy as np
import pytest

from limnet.case.engine import Engine
from limnet.case.one_sided import one_sided, sign_of
from limnet.errors import InputError
from limnet.image.slices import pack, unpack
from limnet.prompts import Prompt2D
from limnet.settings import Settings
from tests.helpers.fake_engine import ThresholdPredictor, fake_case

SHAPE = (12, 40, 48)
ON, OFF = (Settings(scope="interval", one_sided=on) for on in (True, False))


class Drifting:
    """Propagates a square that lies elsewhere in every round, five pixels further right."""

    def __init__(self) -> None:
        self.number = 0

    def propagate(self, view, prompts, origin, scope, known, progress=None, reach=None):
        square = np.zeros(view.shape, np.float32)
        square[10:30, 10 + 5 * self.number : 30 + 5 * self.number] = 0.75
        self.number += 1
        return {i: square for i in range(len(view)) if i not in prompts}


def drifting_case(settings: Settings):
    return fake_case(np.zeros(SHAPE, np.int16), engine=Engine(ThresholdPredictor(), Drifting()), settings=settings)


def columns(mask) -> tuple[int, int]:
    found = np.flatnonzero(mask.any(0))
    return int(found[0]), int(found[-1])


@pytest.mark.parametrize(("positive", "expected"), [(True, (10, 34)), (False, (15, 29))])
def test_a_click_changes_other_slices_in_one_direction(positive: bool, expected: tuple[int, int]) -> None:
    case = drifting_case(ON)
    case.click((6, 20, 20))
    assert columns(case.mask[4]) == (10, 29)
    case.click((2, 20, 20), positive)
    assert columns(case.mask[4]) == expected
    free = drifting_case(OFF)
    free.click((6, 20, 20))
    free.click((2, 20, 20), positive)
    assert columns(free.mask[4]) == (15, 34)


def test_other_prompts_and_scopes_are_free() -> None:
    case = drifting_case(ON)
    case.click((6, 20, 20))
    case.click((2, 20, 20), scope="volume")
    assert columns(case.mask[4]) == (15, 34)
    case.scribble([(5, 20, 20), (5, 20, 24)])
    assert columns(case.mask[4]) == (20, 39)
    case.click((9, 20, 20), propagate=False)
    case.click((3, 20, 20), False, propagate=False)
    case.propagate()
    assert columns(case.mask[4])[0] > 20, "clicks of both kinds"


def test_signs_of_what_is_pending() -> None:
    case = fake_case(settings=ON)
    assert sign_of(case._state) is None
    case.click((6, 20, 24), propagate=False)
    assert sign_of(case._state) is True
    case.click((3, 1, 1), False, propagate=False)
    assert sign_of(case._state) is None
    case.propagate()
    case.click((5, 1, 1), False, propagate=False)
    assert sign_of(case._state) is False
    case.box((7, 1, 1), (7, 9, 9), propagate=False)
    assert sign_of(case._state) is None
    assert Prompt2D("click", True, ((1, 1),)).kind == "click"


def test_slices_without_an_earlier_result_are_taken_as_found() -> None:
    shape = (4, 4)
    old, new = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    old[0], new[1] = 1, 1
    before = (pack(old), pack(old), None)
    found = {0: pack(new), 1: pack(new), 2: None}
    for positive, both in ((True, np.maximum(old, new)), (False, np.minimum(old, new))):
        chosen = one_sided(positive, before, {0, 2}, found, shape, lambda _, mask: pack(mask))
        assert np.array_equal(unpack(chosen[0], shape), both)
        assert np.array_equal(unpack(chosen[1], shape), new)
        assert chosen[2] is None
    assert found[0] == pack(new)


def test_setting() -> None:
    assert Settings().one_sided is False
    with pytest.raises(InputError, match="one_sided is 1; it is True or False"):
        Settings(one_sided=1)  # type: ignore[arg-type]
