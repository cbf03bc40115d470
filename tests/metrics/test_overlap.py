"""Dice and IoU against counting voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from limnet.errors import InputError, InputTypeError
from limnet.metrics import dice, iou

pairs = array_shapes(min_dims=2, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@settings(max_examples=50)
@given(pairs)
def test_against_counting(pair):
    pred, truth = pair
    a = {i for i, v in np.ndenumerate(pred) if v}
    b = {i for i, v in np.ndenumerate(truth) if v}
    assert dice(pred, truth) == (2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0)
    assert iou(pred, truth) == (len(a & b) / len(a | b) if a or b else 1.0)


@settings(max_examples=50)
@given(pairs, st.randoms())
def test_properties(pair, shuffler):
    pred, truth = pair
    d, j = dice(pred, truth), iou(pred, truth)
    assert 0 <= j <= d <= 1
    assert d == pytest.approx(2 * j / (1 + j))
    assert (dice(truth, pred), iou(truth, pred)) == (d, j)
    assert dice(pred, pred) == iou(pred, pred) == 1
    order = list(range(pred.size))
    shuffler.shuffle(order)
    one, other = (m.ravel()[order].reshape(m.shape) for m in (pred, truth))
    assert (dice(one, other), iou(one, other)) == (d, j)


def test_empty():
    empty, full = np.zeros((2, 3, 4), bool), np.ones((2, 3, 4), bool)
    for metric in (dice, iou):
        assert metric(empty, empty) == 1.0
        assert metric(empty, full) == metric(full, empty) == 0.0


@pytest.mark.parametrize("metric", [dice, iou])
def test_bad_masks(metric):
    mask = np.ones((2, 3, 4), bool)
    with pytest.raises(InputTypeError, match="uint8"):
        metric(mask.astype(np.uint8), mask)
    with pytest.raises(InputTypeError, match="truth"):
        metric(mask, mask.tolist())
    with pytest.raises(InputError, match=r"\(2, 4, 3\)"):
        metric(mask, mask.transpose(0, 2, 1))
    for shape in ((4,), (1, 2, 3, 4), (0, 3)):
        with pytest.raises(InputError):
            metric(np.ones(shape, bool), np.ones(shape, bool))
