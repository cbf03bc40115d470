"""Dice and IoU against counting voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from limnet.errors import InputError, InputTypeError
from limnet.metrics import dice, iou
from limnet.metrics.masks import slice_dice

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


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dice_of_slices(axis):
    """Against the Dice of every slice alone; slices without object do not count."""
    rng = np.random.default_rng(axis)
    truth, pred = (np.moveaxis(rng.random((5, 6, 7)) > 0.6, 0, axis) for _ in range(2))
    truth, pred = truth.copy(), pred.copy()
    np.moveaxis(truth, axis, 0)[1] = False
    np.moveaxis(pred, axis, 0)[2] = False
    planes = zip(np.moveaxis(pred, axis, 0), np.moveaxis(truth, axis, 0), strict=True)
    scores = [dice(p, t) for p, t in planes if t.any()]
    assert len(scores) == 4
    assert slice_dice(pred, truth, axis) == pytest.approx(np.mean(scores))
    assert slice_dice(pred, np.zeros_like(truth), axis) == 1.0


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
