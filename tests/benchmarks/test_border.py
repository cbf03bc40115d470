from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.analyses import border


def test_probes_lie_as_far_from_the_border_as_they_say() -> None:
    scenes = list(border.probes(0))
    assert len({scene.target.object for scene in scenes}) == len(scenes) == 480
    for scene in scenes[::7]:
        assert scene.click is not None
        truth, name = scene.target.truth, scene.target.object
        assert truth[scene.click]
        distance = int(name.split(" ")[0])
        rows, columns = ndimage.find_objects(truth[1].astype(int))[0]
        size = truth.shape[1]
        gaps = rows.start, columns.start, size - rows.stop, size - columns.stop
        assert distance in gaps
        depth = int(name.split("click ")[1].split(" ")[0])
        row, column = scene.click[1:]
        assert distance + depth in (row, column, size - 1 - row, size - 1 - column)


@pytest.mark.parametrize(("beyond", "left"), [(-0.5, 10), (-0.25, 15), (0.0, 20), (5.0, 20)])
@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("axis", [1, 2])
def test_the_field_of_view_ends_where_it_should(beyond: float, left: int, low: bool, axis: int) -> None:
    truth = np.zeros((3, 60, 60), bool)
    truth[:, 20:40, 20:40] = True
    part = truth[border._field_of_view(truth, axis, low, beyond)]
    assert part.sum() == 3 * 20 * left
    across = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
    assert (across[0] if low else part.shape[axis] - 1 - across[-1]) == max(int(beyond), 0)


@pytest.mark.usefixtures("models")
def test_two_versions_are_compared(
    study_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = list(itertools.islice(border.probes(0), 3))
    monkeypatch.setattr(border, "probes", lambda seed: few)
    options = ["--data", str(study_root), "--split", "val", "--rounds", "2"]
    border.main([*options, "--out", str(tmp_path / "old")])
    old = json.loads((tmp_path / "old/border.json").read_text())["rows"]
    assert {row["group"] for row in old} == {"cut", "away", *(f"probe, 0 px, click {n} px in" for n in (0, 2, 10))}
    assert all(1 <= len(row["dice"]) <= 2 for row in old)
    border.main([*options, "--out", str(tmp_path / "new"), "--against", str(tmp_path / "old/border.json")])
    assert "| +0.0000 ± 0.0000 | 0 | 0 |" in capsys.readouterr().out.split("/ 2")[-1]
