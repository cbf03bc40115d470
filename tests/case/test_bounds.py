from __future__ import annotations

import numpy as np
import pytest

from limnet.case.bounds import frame_of, framed
from limnet.case.history import Round
from limnet.errors import Cancelled, InputError
from limnet.image.bitmask import BitMask
from limnet.prompts import Box, Click, MaskPrompt, Scribble
from tests.helpers.fake_engine import fake_case, phantom

SHAPE = (12, 40, 48)
BOX = Box((3, 10, 12), (9, 24, 26))


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
