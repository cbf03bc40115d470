from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.analyses import tools
from limnet import InteractiveSegmenter
from tests.helpers.open_root import open_root
from tests.helpers.small_segmenter import small_segmenter


def test_tools_are_compared_with_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = open_root(tmp_path / "data")
    model = small_segmenter()
    monkeypatch.setattr(InteractiveSegmenter, "from_pretrained", lambda *_, **__: model)
    options = ["--data", str(root), "--split", "val", "--per-source", "1"]
    tools.main([*options, "--out", str(tmp_path / "old")])
    rows = json.loads((tmp_path / "old/tools.json").read_text())["rows"]
    assert {row["group"] for row in rows} == {"ts", "openms"}
    assert all(0 <= value <= 1 for row in rows for value in (*row["dice"], *row["tools"].values()))
    assert any(row["tools"] for row in rows)
    capsys.readouterr()
    few = ["--tools", "click +", "click -", "box"]
    tools.main([*options, *few, "--out", str(tmp_path / "new"), "--against", str(tmp_path / "old/tools.json")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| box", "| click", "| lasso"))]
    assert lines
    assert {line.split(" |")[0].removeprefix("| ") for line in lines} <= set(few)
    assert all("+0.0000" in line.split("|")[-2] for line in lines)
