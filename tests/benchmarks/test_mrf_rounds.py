from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses import mrf_rounds
from benchmarks.analyses.watchers import TrueAssessor, WatchedAssessor, step_of
from tests.helpers.fake_engine import ConstantAssessor


def test_three_runs_of_every_object(study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*study, "--rounds", "4", "--per-file", "1", "--scope", "volume", "--tau", "0.5"]
    mrf_rounds.main(options)
    found = json.loads((tmp_path / "mrf_rounds_volume.json").read_text())
    assert len(found["rows"]) == 2 * 3
    rows = {(r["case"], r["variant"]): r for r in found["rows"]}
    for case in ("ts_ct_one", "openms_two"):
        first = {v: rows[case, v]["dice"][0] for v in mrf_rounds.VARIANTS}
        assert len(set(first.values())) == 1, "fusion begins with the second round"
        fused = rows[case, mrf_rounds.FUSED]
        assert {2, 3} <= {step["round"] for step in fused["steps"]} <= {2, 3, 4}
        for step in fused["steps"]:
            assert step["fused"] == pytest.approx(fused["dice"][step["round"] - 1], abs=1e-4)
            assert step["taus"][mrf_rounds.TAUS.index(0.5)] == pytest.approx(step["fused"])
            assert step["taus"][-1] == pytest.approx(step["new"]), "no P is above 0.9"
            assert step["oracle"] >= step["fused"] - 0.02
            assert step["oracle"] >= step["new"] - 0.02
            assert 0 <= step["right"] <= step["compared"]
    gains = found["summary"]["groups"]["all"]["gains"]
    assert gains["oracle"] > 0.01
    assert gains["kept"] == pytest.approx(gains["fusion"] / gains["oracle"])
    assert "## Targets" in (tmp_path / "mrf_rounds_volume.md").read_text()
    assert (tmp_path / "mrf_rounds_volume.png").stat().st_size > 5000
    assert str(tmp_path) not in found["command"]

    monkeypatch.setattr(mrf_rounds, "measure", lambda *_: pytest.fail("all rows are there already"))
    mrf_rounds.main(options)


def test_a_step_by_hand() -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[:, :2] = True  # 8 pixels a slice
    good, half, wrong = (np.zeros((4, 4), np.float32) for _ in range(3))
    good[:2], half[:1], wrong[2:] = 0.9, 0.9, 0.9
    assessor = WatchedAssessor(ConstantAssessor(p={0: 0.9, 1: 0.6, 2: 0.1}), truth)
    previous, current = [good, wrong, half], [half, good, wrong]
    assessor.compare(None, [0, 1, 2], previous, current)  # type: ignore[arg-type]
    oracle = TrueAssessor(None, truth).compare(None, [0, 1, 2], previous, current)  # type: ignore[arg-type]
    assert oracle.tolist() == [1, 0, 1]
    mask = np.stack([good, wrong, wrong]) > 0.5  # as tau 0.5 chooses
    step, (strict,) = step_of(mask, truth, assessor.drain(), 0.5, [0.8])
    assert step.fused == pytest.approx(2 * 8 / (24 + 24))
    assert step.new == pytest.approx(2 * 12 / (4 + 8 + 8 + 24))
    assert step.oracle == pytest.approx(2 * 20 / (8 + 8 + 4 + 24))
    assert strict == pytest.approx(2 * 16 / (8 + 8 + 8 + 24))
    assert (step.compared, step.right) == (3, 1)
    assert assessor.drain() == []


def test_oracle_prefers_less_where_there_is_no_object() -> None:
    truth = np.zeros((1, 4, 4), bool)
    more, less = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    less[0, 0] = 1
    oracle = TrueAssessor(None, truth)
    assert oracle.compare(None, [0], [less], [more]).tolist() == [1]  # type: ignore[arg-type]
    assert oracle.compare(None, [0], [more], [less]).tolist() == [0]  # type: ignore[arg-type]
    assert oracle.compare(None, [0], [less], [less]).tolist() == [0]  # type: ignore[arg-type]


def test_gains_and_bad_rounds() -> None:
    curves = {"no fusion": [0.5, 0.4, 0.6], "fusion": [0.5, 0.6, 0.6], "oracle fusion": [0.5, 0.7, 0.7]}
    assert mrf_rounds.gains(curves) == pytest.approx({"fusion": 0.1, "oracle": 0.2, "kept": 0.5})
    assert mrf_rounds.bad_rounds([{"dice": [0.5, 0.4, 0.6]}], 3) == 0.5
    assert mrf_rounds.bad_rounds([{"dice": [0.5, 0.4]}], 5) == 0.25, "an object that ended loses no more"
    assert mrf_rounds.bad_rounds([{"dice": [0.5, 0.485, 0.6]}], 3) == 0
