"""Clicks to quality, area over the rounds, lost rounds, click compliance, challenge scores."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import limnet.metrics
from limnet.case.constraints import enforce
from limnet.errors import InputError, InputTypeError, OutsideError
from limnet.metrics import (
    auc_over_rounds,
    challenge_scores,
    click_compliance,
    clicks_to_quality,
    rounds_that_lost,
)
from limnet.prompts import Prompt2D
from limnet.simulation.clicks import RobotClick

curves = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(curves, st.floats(0, 1), st.integers(1, 20))
def test_clicks_to_quality_by_loop(values, quality, limit):
    clicks = 0
    for value in values:
        clicks += 1
        if clicks > limit or value >= quality:
            break
    else:
        clicks = limit
    assert clicks_to_quality(values, quality, limit) == min(clicks, limit)


@given(curves, st.floats(0, 1), st.floats(0, 1))
def test_clicks_to_quality_grow_with_quality(values, one, other):
    low, high = sorted((one, other))
    assert 1 <= clicks_to_quality(values, low) <= clicks_to_quality(values, high) <= len(values)


def test_quality_that_is_not_reached():
    assert clicks_to_quality([0.1, 0.2], 0.9) == 2
    assert clicks_to_quality([0.1, 0.2], 0.9, limit=20) == 20
    assert clicks_to_quality([0.1, 0.95], 0.9, limit=1) == 1
    assert clicks_to_quality([0.1, 0.9, 0.3], 0.9, limit=20) == 2
    with pytest.raises(InputError, match="limit"):
        clicks_to_quality([0.5], 0.9, limit=0)


@given(curves)
def test_area_by_loop(values):
    area = sum((a + b) / 2 for a, b in itertools.pairwise(values))
    assert auc_over_rounds(values) == pytest.approx(area, abs=1e-12)
    assert auc_over_rounds(values, "mean") == pytest.approx(np.mean(values), abs=1e-12)
    assert 0 <= auc_over_rounds(values) <= len(values) - 1
    assert auc_over_rounds(values[::-1]) == auc_over_rounds(values)


def test_area_of_five_perfect_predictions():
    assert auc_over_rounds([1.0] * 5) == 4
    assert auc_over_rounds([0.7]) == 0
    assert auc_over_rounds([0.7], "mean") == 0.7
    with pytest.raises(InputError, match="'simpson'"):
        auc_over_rounds([0.7], "simpson")  # type: ignore[arg-type]


@given(curves)
def test_lost_rounds_by_loop(values):
    lost = []
    for i in range(1, len(values)):
        if values[i] < values[i - 1] - 0.02 - 1e-9:
            lost.append(i + 1)
    got = rounds_that_lost(values)
    edge = {i + 1 for i in range(1, len(values)) if abs(values[i - 1] - values[i] - 0.02) < 2e-9}
    assert set(got) ^ set(lost) <= edge


def test_lost_rounds():
    assert rounds_that_lost([0.5, 0.4, 0.6, 0.59, 0.5]) == (2, 5)
    assert rounds_that_lost([0.80, 0.78]) == ()  # exactly 2 points: not more than 2
    assert rounds_that_lost([0.80, 0.7799]) == (2,)
    assert rounds_that_lost([0.80, 0.79], points=0) == (2,)
    assert rounds_that_lost([0.8]) == ()
    with pytest.raises(InputError, match="points"):
        rounds_that_lost([0.8], points=-1)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_curves_that_are_none(values):
    for metric in (lambda v: clicks_to_quality(v, 0.5), auc_over_rounds, rounds_that_lost):
        with pytest.raises(InputError, match="curve"):
            metric(values)


def test_compliance():
    mask = np.zeros((2, 4, 4), bool)
    mask[1, 1:3, 1:3] = True
    obeyed, missed, wrong = ((1, 1, 1), True), ((0, 0, 0), True), ((1, 2, 2), False)
    assert click_compliance(mask, []) == 1
    assert click_compliance(mask, [obeyed]) == 1
    assert click_compliance(mask, [obeyed, missed]) == 0.5
    assert click_compliance(mask, [obeyed, missed, wrong]) == pytest.approx(1 / 3)
    assert click_compliance(mask, [wrong, ((1, 2, 2), True)]) == 1  # the later click on a voxel holds
    assert click_compliance(mask, [RobotClick((1, 1, 1), True, 4), RobotClick((1, 2, 1), False, 9)]) == 0.5
    assert click_compliance(mask[1], [((1, 1), True)]) == 1


@given(
    st.lists(st.tuples(st.tuples(st.integers(0, 4), st.integers(0, 5)), st.booleans()), max_size=12), st.integers(0, 99)
)
def test_compliance_by_loop_and_after_enforce(clicks, seed):
    probability = np.random.default_rng(seed).random((5, 6)).astype(np.float32)
    last = [(v, p) for i, (v, p) in enumerate(clicks) if v not in [w for w, _ in clicks[i + 1 :]]]
    good = sum(bool(probability[v] > 0.5) is p for v, p in last)
    assert click_compliance(probability > 0.5, clicks) == (good / len(last) if last else 1)
    prompts = [Prompt2D("click", positive, (voxel,)) for voxel, positive in clicks]
    assert click_compliance(enforce(probability, prompts) > 0.5, clicks) == 1


def test_bad_compliance():
    mask = np.zeros((2, 3, 3), bool)
    for voxel in ((2, 0, 0), (-1, 0, 0), (0, 0)):
        with pytest.raises(OutsideError):
            click_compliance(mask, [(voxel, True)])
    with pytest.raises(InputTypeError, match="uint8"):
        click_compliance(mask.astype(np.uint8), [])


def test_challenge_scores_by_hand():
    dice = [[0.9, 0.1, 0.2, 0.6, 0.8, 0.9], [0.9, 0.1, 0.4, 0.6, 0.8, 0.7]]  # the box first: not counted
    nsd = [[0.9, 0.5, 0.3, 0.5, 0.7, 1.0], [0.9, 0.5, 0.5, 0.7, 0.9, 0.8]]
    assert challenge_scores(dice, nsd) == pytest.approx(
        {
            "DSC_AUC": 0.1 / 2 + 0.3 + 0.6 + 0.8 + 0.8 / 2,
            "NSD_AUC": 0 + 0.4 + 0.6 + 0.8 + 0.9 / 2,  # Dice 0.1 at the first click: its NSD is 0
            "DSC_Final": 0.8,
            "NSD_Final": 0.9,
        }
    )
    assert challenge_scores([[1.0] * 5], [[1.0] * 5])["DSC_AUC"] == 4
    assert challenge_scores([[0.2] * 5], [[1.0] * 5])["NSD_Final"] == 0  # 0.2 itself is too little


@pytest.mark.parametrize(
    ("dice", "nsd"),
    [
        ([[1.0] * 4], [[1.0] * 4]),
        ([[1.0] * 5], [[1.0] * 6]),
        ([1.0] * 5, [1.0] * 5),
        ([], []),
        ([[1.5] * 5], [[1.0] * 5]),
        ([[math.nan] * 5], [[1.0] * 5]),
        ([[1.0] * 5, [1.0]], [[1.0] * 5] * 2),
    ],
)
def test_bad_challenge_scores(dice, nsd):
    with pytest.raises(InputError):
        challenge_scores(dice, nsd)


def test_public_names():
    pytest.importorskip("torchmetrics")
    assert all(callable(getattr(limnet.metrics, name)) for name in limnet.metrics.__all__)
    with pytest.raises(AttributeError, match="hausdorff95"):
        limnet.metrics.hausdorff  # noqa: B018
