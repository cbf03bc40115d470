from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limnet.case.fusion import fuse, keep_previous, objective
from limnet.errors import InputError

chances = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_rule_of_equation_4() -> None:
    assert keep_previous([0.0, 0.5, 0.500001, 1.0]).tolist() == [False, False, True, True]
    assert keep_previous([0.6, 0.8], tau=0.7).tolist() == [False, True]
    assert fuse("abcd", "ABCD", [0.9, 0.1, 0.5, 0.9]) == ["a", "B", "C", "d"]


def test_masks_are_handed_through() -> None:
    old, new = [np.zeros(3), np.zeros(3)], [np.ones(3), np.ones(3)]
    result = fuse(old, new, [0.9, 0.2])
    assert result[0] is old[0]
    assert result[1] is new[1]


def test_frozen_slices_take_the_current_mask() -> None:
    assert fuse("abc", "ABC", [1.0, 1.0, 1.0], frozen={1}) == ["a", "B", "c"]


@given(chances)
def test_maximises_equation_1(p: list[float]) -> None:
    best = max(objective(p, choice) for choice in itertools.product([False, True], repeat=len(p)))
    assert objective(p, keep_previous(p)) == pytest.approx(best)


@given(chances, st.floats(0, 1))
def test_tau_is_monotone(p: list[float], tau: float) -> None:
    assert not (keep_previous(p, 1.0)).any()
    assert (keep_previous(p, tau) <= keep_previous(p, tau / 2)).all()


def test_refuses() -> None:
    for bad in ([float("nan")], [1.1], [-0.1], [[0.5]]):
        with pytest.raises(InputError):
            keep_previous(bad)
    with pytest.raises(InputError, match="tau"):
        keep_previous([0.5], tau=1.5)
    with pytest.raises(InputError, match="2 previous"):
        fuse("ab", "A", [0.5])
