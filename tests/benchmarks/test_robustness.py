from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses import robustness
from benchmarks.core.suite import SuiteOptions, Target, build_suite
from limnet.image.slice_view import SliceView


@pytest.fixture
def target(study_root: Path) -> Target:
    suite = build_suite("open", study_root, SuiteOptions(per_case=1))
    volume = suite.cases[0].read_image()
    return suite.target(next(suite.choice.objects(suite.cases[0], volume)))


def test_scenes(target: Target) -> None:
    scenes = {n: d(target, 3) for n, d in robustness.disturbances().items()}
    low, high = SliceView(target.volume, 0).auto_window(4, (16, 20))
    width = high - low
    assert scenes["window twice as wide"].window == pytest.approx((low - width / 2, high + width / 2))
    assert scenes["window half as wide"].window == pytest.approx((low + width / 4, high - width / 4))
    assert scenes["window shifted up by a quarter"].window == pytest.approx((low + width / 4, high + width / 4))
    half = scenes["every second slice missing"]
    assert (half.volume.shape, half.truth.shape, half.volume.spacing) == ((4, 32, 40), (4, 32, 40), (4.0, 1.0, 1.0))
    np.testing.assert_array_equal(half.volume.array, target.volume.array[::2])
    noisy = scenes["noise, 10 % of the window"].volume.array
    difference = noisy.astype(float) - target.volume.array
    assert noisy.dtype == target.volume.array.dtype
    assert 0.05 * width < difference.std() < 0.11 * width, "a little less than 10 %, for values are cut off"
    again = robustness.noise(target, 3, 0.1).volume.array
    np.testing.assert_array_equal(noisy, again)
    assert (robustness.noise(target, 4, 0.1).volume.array != noisy).any()
    assert (scenes["clicks moved by up to 2 mm"].robot.jitter, scenes[robustness.CLEAN].robot.jitter) == (2.0, 0.0)


def test_losses_are_paired(study: list[str], tmp_path: Path) -> None:
    robustness.main([*study, "--rounds", "1", "--per-file", "1", "--only", "two"])
    found = json.loads((tmp_path / "robustness.json").read_text())
    summary = found["summary"]["disturbances"]
    assert set(summary) == set(robustness.disturbances())
    clean = summary[robustness.CLEAN]
    assert clean["lost"] == [0.0]
    for one in summary.values():
        assert one["lost"][0] == pytest.approx(clean["dice"][0] - one["dice"][0])
    assert (tmp_path / "robustness.png").stat().st_size > 5000
