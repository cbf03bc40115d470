from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from limnet.errors import InputError
from limnet.image.slices import SliceStore, area, dense_mask, dense_probability, is_empty, overlap, pack, unpack

probabilities = hnp.arrays(np.float32, (7, 9), elements={"min_value": 0, "max_value": 1})


@given(probabilities)
def test_mask_survives_exactly(p: np.ndarray) -> None:
    stored = pack(p)
    back = unpack(stored, (7, 9))
    assert np.array_equal(back > 0.5, p > 0.5)
    assert np.abs(back - p).max() < 0.021
    assert area(stored) == (p > 0.5).sum()
    assert pack(back) == stored  # storing what was stored changes nothing


def test_one_half_is_not_object() -> None:
    assert not (unpack(pack(np.full((3, 3), 0.5)), (3, 3)) > 0.5).any()
    assert (unpack(pack(np.full((3, 3), np.nextafter(np.float32(0.5), 1))), (3, 3)) > 0.5).all()


def test_empty_slices_cost_nothing() -> None:
    assert pack(np.zeros((4, 4))) is None
    assert pack(np.full((4, 4), 0.01)) is None
    assert is_empty(pack(np.full((4, 4), 0.3)))


def test_refuses_what_is_no_probability() -> None:
    for bad in (np.full((3, 3), np.nan), np.full((3, 3), 1.5), np.zeros((3, 3, 3))):
        with pytest.raises(InputError):
            pack(bad)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dense(axis: int) -> None:
    p = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    p[1] = 0
    slices = tuple(pack(s) for s in np.moveaxis(p, axis, 0))
    assert np.array_equal(dense_mask(slices, p.shape, axis), p > 0.5)
    assert np.abs(dense_probability(slices, p.shape, axis) - p).max() < 0.021


def test_overlap() -> None:
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[:2], b[1:3] = 1, 1
    assert overlap(pack(a), pack(b)) == pytest.approx(0.5)
    assert overlap(None, None) == 1.0
    assert overlap(pack(a), None) == 0.0


def test_a_store_of_slices_gives_what_packing_gives():
    store = SliceStore()
    slices = {
        3: np.random.default_rng(0).random((900, 700), dtype=np.float32),
        1: np.zeros((9, 7), np.float32),
        2: np.zeros((9, 7), np.float32),
    }
    slices[2][4:6, 1:5] = [0.5, 0.5000001, 0.01, 1]
    for index, probability in slices.items():
        store[index] = probability
    for index, probability in slices.items():
        assert pack(store[index]) == pack(probability)
    other = SliceStore()
    other.take(store)
    del store[3]
    assert (list(store), list(other), len(other)) == ([1, 2], [3, 1, 2], 3)
