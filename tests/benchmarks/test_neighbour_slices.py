from __future__ import annotations

import numpy as np
import pytest

from benchmarks.analyses.neighbour_slices import NeighbourSlice, neighbour_slice
from limnet.errors import InputError, OutsideError


def cone() -> np.ndarray:
    """Slices 2 to 9 along the first axis show squares of different size."""
    volume = np.zeros((12, 20, 20), np.uint8)
    for i in range(2, 10):
        volume[i, 10 - i : 10 + i, 10 - i : 10 + i] = 1
    return volume


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_within_reach_that_shows_the_object(axis: int):
    volume = np.moveaxis(cone(), 0, axis)
    offsets = set()
    for seed in range(60):
        mask, taken = neighbour_slice(volume, 8, axis, np.random.default_rng(seed), reach=3)
        np.testing.assert_array_equal(mask, cone()[8 + taken.offset] != 0)
        np.testing.assert_array_equal(taken.apply(volume), mask)
        offsets.add(taken.offset)
    assert offsets == {-3, -2, -1, 1}  # 10 and 11 are empty, 8 is the slice itself


def test_alone_the_slice_gives_its_own_mask():
    volume = np.zeros((9, 5, 5), bool)
    volume[4, 1:3, 1:3] = True
    mask, taken = neighbour_slice(volume, 4, 0, np.random.default_rng(0), reach=4)
    assert taken == NeighbourSlice(0, 4, 0)
    np.testing.assert_array_equal(mask, volume[4])
    mask[:] = False
    assert volume[4].any()  # a copy


def test_an_empty_slice_gets_the_mask_next_to_it():
    _, taken = neighbour_slice(cone(), 10, 0, np.random.default_rng(0), reach=1)
    assert taken.offset == -1


def test_bad_input():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="D, H, W"):
        neighbour_slice(np.ones((4, 4)), 0, 0, rng)
    with pytest.raises(InputError, match="axis"):
        neighbour_slice(cone(), 0, 3, rng)
    with pytest.raises(InputError, match="reach"):
        neighbour_slice(cone(), 0, 0, rng, reach=0)
    with pytest.raises(OutsideError, match="0 to 11"):
        neighbour_slice(cone(), 12, 0, rng)
