from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import mrf_rounds


def test_three_runs_of_every_object(study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*study, "--rounds", "3", "--per-file", "1", "--scope", "volume", "--tau", "0.5"]
    mrf_rounds.main(options)
    found = json.loads((tmp_path / "mrf_rounds_volume.json").read_text())
    assert len(found["rows"]) == 2 * 3
    rows = {(r["file"], r["variant"]): r for r in found["rows"]}
    for file in ("val/ts_ct_one.npz", "val/openms_two.npz"):
        first = {v: rows[file, v]["dice"][0] for v in mrf_rounds.VARIANTS}
        assert len(set(first.values())) == 1, "fusion begins with the second round"
        steps = rows[file, mrf_rounds.FUSED]["steps"]
        assert steps
        for step in steps:
            assert step["fused"] == pytest.approx(rows[file, mrf_rounds.FUSED]["dice"][step["round"] - 1], abs=1e-4)
            assert step["taus"][mrf_rounds.TAUS.index(0.5)] == pytest.approx(step["fused"])
            assert 0 <= step["right"] <= step["compared"]
            if step["right"] == step["compared"]:
                assert step["fused"] == pytest.approx(step["oracle"])
    assert "## Targets" in (tmp_path / "mrf_rounds_volume.md").read_text()
    assert (tmp_path / "mrf_rounds_volume.png").stat().st_size > 5000
    assert str(tmp_path) not in found["command"]

    monkeypatch.setattr(mrf_rounds, "measure", None)  # all rows are there already
    mrf_rounds.main(options)


def test_gains_and_bad_rounds() -> None:
    def row(variant: str, *dice: float) -> dict:
        return {"variant": variant, "dice": list(dice)}

    rows = [row("no fusion", 0.5, 0.4, 0.6), row("fusion", 0.5, 0.6, 0.6), row("oracle fusion", 0.5, 0.7, 0.7)]
    found = mrf_rounds.gains(rows)
    assert found == pytest.approx({"fusion": 0.1, "oracle": 0.2, "kept": 0.5})
    assert mrf_rounds.bad_rounds(rows[:1]) == 0.5
    assert mrf_rounds.bad_rounds([row("x", 0.5, 0.485, 0.6)]) == 0
