from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limnet.errors import InputError, InputTypeError, OutsideError
from limnet.image.slices import BitMask
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Scribble, prompt_from_json, prompt_to_json

SHAPE = (6, 8, 10)
points = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7)))
def test_bitmask_round_trip(array: np.ndarray) -> None:
    packed = BitMask.of(array)
    assert np.array_equal(packed.array(), array)
    assert packed.array().shape == array.shape
    assert packed.count == array.sum()
    assert BitMask.from_json(json.loads(json.dumps(packed.to_json()))) == packed


def test_bitmask_takes_zero_one_integers_only() -> None:
    assert BitMask.of(np.array([0, 1, 1])).count == 2
    for bad in (np.array([0, 2]), np.array([0.0, 1.0]), np.array(["a"])):
        with pytest.raises(InputTypeError, match="boolean"):
            BitMask.of(bad)


@pytest.mark.parametrize(
    "data", [None, {}, {"shape": [2], "runs": [1]}, {"shape": [2], "runs": [-1, 3]}, {"shape": [2.0], "runs": [2]}]
)
def test_bitmask_bad_json(data: object) -> None:
    with pytest.raises(InputError):
        BitMask.from_json(data)


@given(points, st.booleans(), st.integers(0, 2))
def test_click_on_its_slice(point: tuple[int, int, int], positive: bool, axis: int) -> None:
    [(index, part)] = Click(point, positive).on_slices(SHAPE, axis)
    volume = np.zeros(SHAPE, bool)
    volume[point] = True
    assert np.moveaxis(volume, axis, 0)[index][part.points[0]]
    assert part.positive is positive


@given(st.data())
def test_json_round_trip(data: st.DataObject) -> None:
    click = st.builds(Click, points, st.booleans())
    box = st.tuples(points, points).map(lambda ab: Box(np.min(ab, 0), np.max(ab, 0)))
    stroke = st.builds(Scribble, st.lists(points, min_size=1, max_size=5), st.booleans())
    lasso = st.lists(points, min_size=3, max_size=6, unique=True).map(Lasso)
    mask = hnp.arrays(bool, SHAPE).map(lambda a: MaskPrompt(BitMask.of(a)))
    flat = st.builds(lambda a, i: MaskPrompt(BitMask.of(a), i), hnp.arrays(bool, SHAPE[1:]), st.integers(0, 5))
    prompt: Prompt = data.draw(st.one_of(click, box, stroke, lasso, mask, flat))
    assert prompt_from_json(json.loads(json.dumps(prompt_to_json(prompt)))) == prompt


@pytest.mark.parametrize("point", [(-1, 0, 0), (6, 0, 0), (0, 8, 0), (0, 0, 10), (0, -1, 0)])
def test_outside_says_what_is_allowed(point: tuple[int, int, int]) -> None:
    with pytest.raises(OutsideError, match=r"z 0\.\.5, y 0\.\.7, x 0\.\.9") as caught:
        Click(point).on_slices(SHAPE, 0)
    assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize(
    "point",
    [
        [1, 2, 3],
        np.array([1, 2, 3]),
        np.array([1, 2, 3], np.uint8),
        (np.int64(1), np.uint16(2), np.int8(3)),
        torch.tensor([1, 2, 3]),
        tuple(torch.tensor([1, 2, 3]).numpy()),
    ],
)
def test_coordinates_of_any_integer_type(point: Any) -> None:
    assert Click(point).point == (1, 2, 3)
    assert type(Click(point).point[0]) is int
    assert Scribble.of([point, point]).points == ((1, 2, 3), (1, 2, 3))


def test_scribble_forms_agree() -> None:
    painted = np.zeros(SHAPE, bool)
    painted[2, 3, 4:7] = True
    [(index, part)] = Scribble.of(painted).on_slices(SHAPE, 0)
    assert index == 2
    assert part.mask is not None
    assert np.array_equal(part.mask.array(), painted[2])
    [(index, part)] = Scribble.of([(2, 3, 4), (2, 3, 6)]).on_slices(SHAPE, 0)
    assert (index, part.points) == (2, ((3, 4), (3, 6)))
    assert Scribble.of((2, 3, 4)).points == ((2, 3, 4),)


def test_scribble_on_several_slices_or_wrong_shape() -> None:
    split = Scribble.of([(1, 1, 1), (3, 1, 5), (3, 4, 5)]).on_slices(SHAPE, 0)
    marked = {index: np.argwhere(part.mask.array()).tolist() for index, part in split}
    assert marked == {1: [[1, 1]], 2: [[1, 2], [1, 3], [1, 4]], 3: [[1, 5], [2, 5], [3, 5], [4, 5]]}
    assert Scribble.of([(1, 1, 1), (2, 1, 1)]).on_slices(SHAPE, 1)[0][0] == 1
    painted = np.ones((2, 8, 10), bool)
    with pytest.raises(InputError, match="shape"):
        Scribble.of(painted).on_slices(SHAPE, 0)
    with pytest.raises(InputError, match="shape"):
        Scribble.of(np.ones((8, 10), bool))


def test_box() -> None:
    with pytest.raises(InputError, match="lo"):
        Box((3, 0, 0), (2, 5, 5))
    box = Box((1, 2, 3), (4, 5, 6))
    assert box.on_slices(SHAPE, 0)[0][0] == 2
    assert box.range_along(0) == (1, 4)
    assert Box((1, 2, 3), (1, 5, 6)).range_along(0) is None


def test_lasso() -> None:
    with pytest.raises(InputError, match="3 different"):
        Lasso([(1, 1, 1), (1, 2, 2), (1, 1, 1)])
    with pytest.raises(InputError, match="one line"):
        Lasso([(1, 1, 1), (1, 2, 2), (1, 3, 3)]).on_slices(SHAPE, 0)
    with pytest.raises(InputError, match="one slice"):
        Lasso([(1, 1, 1), (1, 2, 2), (2, 3, 1)]).on_slices(SHAPE, 0)
    assert Lasso([(1, 1, 1), (1, 2, 2), (1, 3, 1)]).on_slices(SHAPE, 0)[0][0] == 1


def test_mask_prompt() -> None:
    whole = np.zeros(SHAPE, bool)
    whole[2:4, 2:5, 2:5] = True
    assert [i for i, _ in MaskPrompt(BitMask.of(whole)).on_slices(SHAPE, 0)] == [1, 2, 3, 4]  # ends stated empty
    whole[3] = False
    assert [i for i, _ in MaskPrompt(BitMask.of(whole)).on_slices(SHAPE, 0)] == [2]
    whole[5] = True
    assert [i for i, _ in MaskPrompt(BitMask.of(whole)).on_slices(SHAPE, 0)] == [2, 5]  # gaps are propagated
    with pytest.raises(InputError, match="index"):
        MaskPrompt(BitMask.of(whole[0]))
    with pytest.raises(InputError, match="leave index out"):
        MaskPrompt(BitMask.of(whole), 2)
    with pytest.raises(InputError, match="shape"):
        MaskPrompt(BitMask.of(np.ones((8, 9), bool)), 2).on_slices(SHAPE, 0)
    with pytest.raises(InputError, match="empty mask"):
        MaskPrompt(BitMask.of(np.zeros(SHAPE, bool))).on_slices(SHAPE, 0)


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"type": "clik", "point": [1, 2, 3]}, {"type": "click"}, {"type": "click", "point": [1, 2]},
     {"type": "click", "point": [1, 2, 3], "sign": 1}, {"type": "click", "point": [1, 2, 3], "positive": 1},
     {"type": "box", "lo": [1, 1, 1]}, {"type": ["click"], "point": [1, 2, 3]}],
)  # fmt: skip
def test_bad_json(data: object) -> None:
    with pytest.raises(InputError):
        prompt_from_json(data)


def test_ragged_points_are_refused() -> None:
    for points in ([[1, 2, 3], [[4], 5, 6], [7, 8, 9]], [[1, [2], 3]] * 3, [1, [2, 3], 4]):
        for kind in ("scribble", "lasso"):
            with pytest.raises(InputError):
                prompt_from_json({"type": kind, "points": points})


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7)])
def test_voxels_of_a_stroke(shape):
    for share in (0.1, 0.5, 1.0):
        mask = np.random.default_rng(1).random(shape) <= share
        mask.flat[-1] = True
        np.testing.assert_array_equal(Scribble.of(mask).voxels(shape), np.argwhere(mask))
    assert Scribble(((0, 0, 0),)).voxels(shape).tolist() == [[0, 0, 0]]
    with pytest.raises(InputError, match="shape"):
        Scribble.of(mask).voxels((2, 2, 2))


def test_voxels_of_a_line_go_through_every_slice():
    assert Scribble(((0, 0, 0), (2, 4, 0))).voxels((3, 5, 1)).tolist() == [
        [0, 0, 0],
        [0, 1, 0],
        [1, 2, 0],
        [2, 3, 0],
        [2, 4, 0],
    ]
