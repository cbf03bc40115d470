from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses import interaction2d
from benchmarks.core.suite import Target
from limnet.image.volume import Volume


def test_window_at_true_scale() -> None:
    truth = np.zeros((3, 200, 300), bool)
    truth[1, 100:120, 10:30] = True  # 20 mm by 40 mm
    target = Target("case", "object", "group", Volume.from_array(truth.astype(np.uint8), (3, 1, 2)), truth)
    rows, columns = interaction2d.true_scale(target, 1)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (100, 50), "100 mm, square"
    assert (rows.start, columns.start) == (60, 0), "centred, or moved onto the slice"


def test_both_images(study: list[str], tmp_path: Path) -> None:
    interaction2d.main([*study, "--rounds", "5", "--per-file", "1"])
    found = json.loads((tmp_path / "interaction2d.json").read_text())
    rows = {(r["case"], r["variant"]): r for r in found["rows"]}
    whole = rows["ts_ct_one", interaction2d.WHOLE]
    assert whole["shape"] == [32, 40]
    assert whole["rounds"] == list(range(1, len(whole["dice"]) + 1))
    assert whole["newest"][1] >= 1
    summary = found["summary"]["groups"]["all"]
    firsts = [next((i for i, d in enumerate(r["dice"], 1) if d >= 0.85), 5) for r in found["rows"]]
    mean = np.mean([summary[v]["NoC@85"] for v in interaction2d.VARIANTS])
    assert mean == pytest.approx(np.mean(firsts))
    assert (tmp_path / "interaction2d.png").stat().st_size > 5000
