from __future__ import annotations

import numpy as np
import pytest

from limnet.image.slice_view import SliceView
from limnet.image.slices import pack
from limnet.image.volume import Volume
from limnet.interaction.predictor import Neighbour, neighbour

DEPTH = 30


def view(gap: float = 1.0, pixel: float = 1.0) -> SliceView:
    return SliceView(Volume.from_array(np.zeros((DEPTH, 40, 48), np.int16), spacing=(gap, pixel, pixel)))


def square(side: int) -> np.ndarray:
    mask = np.zeros((40, 48), np.float32)
    mask[5 : 5 + side, 6 : 6 + side] = 0.9
    return mask


def seen(index: int, sides: dict[int, int], gap: float = 1.0, pixel: float = 1.0) -> Neighbour | None:
    slices = [pack(square(sides[i])) if i in sides else None for i in range(DEPTH)]
    return neighbour(view(gap, pixel), slices, sides, index)


def test_the_nearest_one_that_holds_the_object() -> None:
    found = seen(10, {4: 8, 9: 0, 14: 10, 10: 3})
    assert found is not None
    assert np.array_equal(found.mask, square(10) > 0.5)
    assert seen(10, {9: 0, 10: 3}) is None
    assert seen(10, {}) is None


def test_between_two_of_them_the_object_surely_is() -> None:
    for sides, surely in (
        ({0: 4, 29: 4}, True),
        ({0: 4, 12: 0}, False),
        ({0: 4, 12: 0, 29: 4}, True),
        ({29: 4}, False),
    ):
        found = seen(10, sides)
        assert found is not None
        assert found.surely is surely, sides


@pytest.mark.parametrize(
    ("away", "gap", "pixel", "surely"), [(3, 1, 1, True), (4, 1, 1, False), (1, 4, 1, False), (3, 4, 4, True)]
)
def test_close_by_too(away: int, gap: float, pixel: float, surely: bool) -> None:
    found = seen(10 + away, {10: 20}, gap, pixel)  # 20 pixels wide: a fifth of it are 4
    assert found is not None
    assert found.surely is surely
