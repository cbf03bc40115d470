"""Accepted slices: as they were, bit for bit, through later rounds, undo and sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.errors import InputError, OutsideError
from tests.helpers.fake_engine import fake_case, phantom
from tests.helpers.small_segmenter import small_segmenter


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
