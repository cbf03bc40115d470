"""Run time beside the published row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.core.published import published_runtime
from benchmarks.suites.runtime import run_runtime
from benchmarks.timing import round_time
from benchmarks.timing.limnet_methods import LimnetMethod
from benchmarks.timing.outside_methods import PassMethod
from benchmarks.timing.round_time import RoundJob, run_round
from limnet.errors import InputError
from tests.helpers.small_segmenter import small_segmenter


def test_table_beside_the_published_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "benchmarks.suites.runtime.InteractiveSegmenter.from_pretrained", lambda *_, **__: small_segmenter()
    )
    asked: list[RoundJob] = []

    def run(job: RoundJob) -> Iterator[dict[str, Any]]:
        asked.append(job)
        took = {"open": 0.1, "first round": (4, 2, 5)[job.repeat], "later round": 1.6}
        yield {**job.key(), "seconds": took, "peak": 1.5e9, "device_peak": None}

    for _ in range(2):  # the second time nothing is left to do
        path = run_runtime(tmp_path, ("tiny", "base"), threads=2, run=run)
    assert [(job.method, job.repeat) for job in asked] == [(m, r) for r in range(3) for m in ("tiny", "base")]
    text = path.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| **tiny** | 100 x 480 x 480 |"))
    assert "| 25.00 (22.50-37.50) | 62.50 (62.50-62.50) | 1.50 GB (process) | 0.80 |" in row
    assert (
        "| LIM-Net (published) | 100 x 480 x 480 | Tesla V100-SXM2, 16 GB | 31.25 | - | 2.7 GB (GPU) | 1.00 |" in text
    )
    assert all(f"- {caveat}" in text for caveat in published_runtime().caveats)
    written = json.loads((tmp_path / "runtime.json").read_text())
    assert written["fixed"]["seed"] == 0
    found = written["summary"]["runs"]
    assert [(r["method"], r["runs"], r["slices_per_second"]["first round"]["median"]) for r in found] == [
        ("tiny", 3, 25),
        ("base", 3, 25),
    ]
    run_runtime(tmp_path, ("tiny",), slices=50, threads=2, repeats=1, run=run)
    text = path.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| **tiny** | 50 x 480 x 480 |"))
    assert row.endswith("| - |"), "another number of slices is not compared"
    with pytest.raises(InputError, match="'fast' is unknown"):
        run_runtime(tmp_path, ("fast",), run=run)


def test_rounds_are_timed_stage_by_stage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(round_time, "build", lambda *_: LimnetMethod(small_segmenter(), 64))
    row = run_round(RoundJob("tiny", 64, 6))
    assert list(row["seconds"]) == ["open", "first round", "later round"]
    assert row["seconds"]["first round"] > row["seconds"]["open"] > 0
    assert row["peak"] > 100_000_000, "the whole process, torch included"
    assert row["device_peak"] is None
    assert "model" not in row
    monkeypatch.setattr(round_time, "build", lambda *_: PassMethod(small_segmenter().interaction, (1,), "fp32"))
    with pytest.raises(InputError, match="limnet's own"):
        run_round(RoundJob("scribbleprompt", 64, 6))
