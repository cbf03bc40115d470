from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines.classical import ConfidenceConnected, GeodesicDistance, RandomWalker
from benchmarks.core.rounds import Predictor, config_hash, predictor_config
from limnet.image.volume import Volume
from tests.helpers.bench import ball, painted, played, rod
from tests.helpers.scenes import dice

BASELINES = [RandomWalker(), GeodesicDistance(), ConfidenceConnected()]
baselines = pytest.mark.parametrize("baseline", BASELINES, ids=lambda p: p.name)


@baselines
@pytest.mark.parametrize("spacing", [(4.0, 1.0, 1.0), (1.0, 0.8, 1.6)])
def test_a_ball_is_found_in_a_few_clicks(baseline: Predictor, spacing: tuple[float, float, float]):
    volume, truth = ball(spacing, side=32.0)
    masks = played(baseline.start(volume, 0), volume, truth, 3)
    assert dice(masks[-1], truth) > 0.85
    assert masks[-1].dtype == bool
    first = played(baseline.start(volume, 0), volume, truth, 1)
    assert np.array_equal(first[0], masks[0]), "the same click, the same mask"


@baselines
def test_a_negative_click_takes_away(baseline: Predictor):
    volume, truth = rod()  # nothing in the image says that the object should end before its end
    session = baseline.start(volume, 0)
    before = session.click((12, 14, 27), True)
    assert before[12, 14, 44]
    after = session.click((12, 14, 44), False)
    assert not after[12, 14, 44]
    assert after[12, 14, 27]
    assert after[:, :, 40:].sum() < 0.5 * before[:, :, 40:].sum()
    assert after[:, :, 15:30].sum() > 0.5 * truth[:, :, 15:30].sum()


@baselines
def test_nothing_is_marked_before_a_positive_click(baseline: Predictor):
    volume, truth = ball()
    session = baseline.start(volume, 0)
    assert not session.click((2, 2, 2), False).any()
    assert dice(session.click((20, 20, 20), True), truth) > 0.5


@baselines
def test_colours_nan_and_flat_volumes(baseline: Predictor):
    volume, truth = ball()
    array = volume.array.copy()
    array[0, 0, :5] = np.nan
    assert dice(baseline.start(Volume.from_array(array, volume.spacing), 0).click((20, 20, 20), True), truth) > 0.5
    colours = np.repeat(np.clip(volume.array, 0, 255).astype(np.uint8)[..., None], 3, -1)
    assert dice(baseline.start(Volume.from_array(colours, volume.spacing), 1).click((20, 20, 20), True), truth) > 0.5
    flat = baseline.start(Volume.from_array(np.zeros((5, 16, 16), np.int16), (1, 1, 1)), 0)
    assert flat.click((2, 8, 8), True).shape == (5, 16, 16)
    single = baseline.start(painted(truth[20:21], (1.0, 1.0, 1.0)), 0)
    assert dice(single.click((0, 20, 20), True), truth[20:21]) > 0.7


def test_configurations_are_told_apart():
    hashes = [config_hash(predictor_config(baseline)) for baseline in [*BASELINES, RandomWalker(beta=1.0)]]
    assert len(set(hashes)) == 4
