from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses import calibration


def test_error_by_hand() -> None:
    predicted, true = np.array([0.05, 0.15, 0.17, 1.0]), np.array([0.0, 0.4, 0.2, 0.6])
    bins = calibration.reliability(predicted, true)
    assert [b.slices for b in bins] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (bins[1].predicted, bins[1].true) == (pytest.approx(0.16), pytest.approx(0.3))
    assert calibration.expected_error(bins) == pytest.approx((0.05 + 2 * 0.14 + 0.4) / 4)


def test_order() -> None:
    assert calibration.spearman([0.1, 0.2, 0.3, 0.4, 0.9], [1, 2, 3, 4, 5]) == pytest.approx(1)
    assert calibration.spearman([0.1, 0.2, 0.3, 0.4, 0.9], [5, 4, 3, 2, 1]) == pytest.approx(-1)
    assert np.isnan(calibration.spearman([0.1] * 5, [5, 4, 3, 2, 1]))


def test_prompted_and_empty_slices_are_left_out(study: list[str], tmp_path: Path) -> None:
    calibration.main([*study, "--rounds", "3", "--per-file", "1"])
    found = json.loads((tmp_path / "calibration.json").read_text())
    row = found["rows"][0]
    assert all(len(q) == len(d) == len(e) for q, d, e in zip(row["predicted"], row["true"], row["empty"], strict=True))
    assert all(0 < len(d) < 8 for d in row["true"]), "never the prompted slice"
    empty = [d for ds, es in zip(row["true"], row["empty"], strict=True) for d, e in zip(ds, es, strict=True) if e]
    assert set(empty) <= {0.0}
    every, filled = found["summary"]["groups"]["all"], found["summary"]["groups"]["all, mask not empty"]
    assert filled["slices"] <= every["slices"] == sum(len(d) for r in found["rows"] for d in r["true"])
    assert (tmp_path / "calibration.png").stat().st_size > 5000


def test_empty_masks_can_be_left_out() -> None:
    row = {
        "predicted": [[0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.0]],
        "true": [[0.2, 0.3, 0.4, 0.5, 0.6, 0.0, 0.0]],
        "empty": [[0, 0, 0, 0, 0, 1, 1]],
    }
    every, filled = calibration.judged([row]), calibration.judged([row], filled=True)
    assert (every["slices"], filled["slices"]) == (7, 5)
    assert filled["ece"] == filled["mean_error"] == pytest.approx(0.1)
    assert every["mean_error"] == pytest.approx((5 * 0.1 + 2) / 7)
    assert filled["spearman"] == filled["spearman_within"] == pytest.approx(1)
    assert every["spearman_within"] < 0.5
