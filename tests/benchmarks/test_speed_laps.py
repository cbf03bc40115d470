"""The suite's order of work: methods take turns, nothing is measured twice, what cannot run is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.analyses import speed
from benchmarks.core.studies.record import Record
from benchmarks.timing import worker
from benchmarks.timing.holding import HoldJob
from benchmarks.timing.laps import LapJob, Turn, measured, run_laps
from benchmarks.timing.methods import FIRST, METHODS, SLICE_FIRST, build, missing
from benchmarks.timing.plan import FULL, QUICK, STANDARD, Plan, carry_out
from benchmarks.timing.report import write_speed_report
from limnet.errors import InputError, LimnetError

JOB = LapJob(32, 6, 4, (1, 2), ("fp32", "bf16"), ("tiny", "ritm-h18s", "xmem"), 2)


class Fake:
    """Notes its laps in a list it shares with the others."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    def lap(self, scene: Any) -> dict[str, list[float]]:
        self.seen.append((self.name, torch.get_num_threads(), len(scene.truth)))
        if self.name == "ritm-h18s":
            raise RuntimeError("too  small")
        return {FIRST: [0.5], SLICE_FIRST: [0.25, 0.25]}


def test_methods_take_turns():
    turns = JOB.turns()
    light = [t.method for t in turns if t.lap == 0 and t.threads == 1]
    assert light == ["tiny", "ritm-h18s"] * 2, "heavy methods get the largest number of threads only"
    assert [t.method for t in turns if t.lap == 0 and t.threads == 2] == ["tiny", "ritm-h18s", "xmem"] * 2
    assert [t.lap for t in turns] == [0] * 10 + [1] * 10, "a lap goes through everything before the next begins"
    assert [t[1:] for t in turns[:10]] == [t[1:] for t in turns[10:]]


def test_laps_are_measured_in_that_order():
    seen: list[Any] = []
    before = torch.get_num_threads()
    job = replace(JOB, precisions=("fp32",))
    rows = list(run_laps(job, lambda name, *_: Fake(name, seen)))
    assert torch.get_num_threads() == before
    assert [(r["method"], r["threads"], r["lap"]) for r in rows] == [
        ("tiny", 1, 0),
        ("ritm-h18s", 1, 0),
        ("tiny", 2, 0),
        ("xmem", 2, 0),
        ("tiny", 1, 1),
        ("tiny", 2, 1),
        ("xmem", 2, 1),
    ]
    assert rows[0]["samples"] == {FIRST: [0.5], SLICE_FIRST: [0.25, 0.25]}
    assert rows[1]["left_out"] == "RuntimeError: too small"
    depths = [(name, threads, depth) for name, threads, depth in seen if name != "ritm-h18s"]
    assert depths[:4] == [("tiny", 1, 3), ("tiny", 1, 6), ("tiny", 2, 3), ("tiny", 2, 6)], "warmed for every setting"
    assert [d for d in depths if d[0] == "xmem"] == [("xmem", 2, 3), ("xmem", 2, 4), ("xmem", 2, 4)]


def test_what_was_measured_is_not_measured_again():
    seen: list[Any] = []
    rows = list(run_laps(JOB, lambda name, *_: Fake(name, seen)))
    done = measured(rows, JOB)
    left = replace(JOB, done=done).turns()
    assert {t.method for t in left} == {"ritm-h18s"}, "what failed is tried again"
    assert not set(done) & set(left)
    assert len(done) + len(left) == len(JOB.turns())
    assert measured(rows, replace(JOB, slices=7)) == tuple(t for t in done if t.method == "xmem")
    again = LapJob.from_json(json.loads(json.dumps(replace(JOB, done=done).to_json())))
    assert again == replace(JOB, done=done)
    assert isinstance(again.done[0], Turn)


@pytest.mark.parametrize(("seconds", "laps"), [(0, 5), (1, 2), (39, 2), (40, 3), (1000, 5)])
def test_laps_that_would_end_too_late_do_not_begin(seconds: float, laps: int):
    now = [0.0]

    class Slow(Fake):
        def lap(self, scene: Any) -> dict[str, list[float]]:
            now[0] += 5
            return super().lap(scene)

    job = LapJob(32, 6, 4, (1,), ("fp32",), ("tiny", "xmem"), 5, seconds=seconds)
    rows = list(run_laps(job, lambda name, *_: Slow(name, []), lambda: now[0]))
    assert len(rows) == 2 * laps, "whole laps: the first one warms up and takes 20, the others 10"
    later = replace(job, done=measured(rows, job))
    more = list(run_laps(later, lambda name, *_: Slow(name, []), lambda: now[0]))
    assert bool(more) == (laps < 5), "started again, it goes on by one lap at least"


def test_sizes_share_the_time_that_memory_leaves(tmp_path: Path):
    now, given = [0.0], []

    def run(job: LapJob | HoldJob) -> Iterator[dict[str, Any]]:
        now[0] += 30
        given.append(getattr(job, "seconds", None))
        yield from fake_rows(job)

    plan = Plan((32, 48), 4, 3, (1,), ("fp32",), 1, ("tiny",), (("tiny", (4,)),), minutes=3)
    carry_out(plan, Record(tmp_path, "speed", "c", {}), run, lambda: now[0])
    assert given == [None, None, 60, 90]
    carry_out(replace(plan, minutes=0, repeats=2), Record(tmp_path, "speed", "c", {}), run, lambda: now[0])
    assert given[4:] == [0, 0]


def test_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.timing.methods.find_spec", lambda _: None)
    reason = missing("sam2-video")
    assert reason is not None
    assert "pip install transformers" in reason
    assert missing("tiny") is None
    rows = list(run_laps(replace(JOB, methods=("sam2-video", "nninteractive"))))
    assert [r["method"] for r in rows] == ["sam2-video", "nninteractive"]
    assert "dynamic-network-architectures" in rows[1]["left_out"]
    with pytest.raises(InputError, match="'fast' is unknown; there are tiny"):
        build("fast", 32, "fp32")


def fake_rows(job: LapJob | HoldJob) -> Iterator[dict[str, Any]]:
    if isinstance(job, LapJob):
        for turn in job.turns():
            yield {**job.key(turn), "samples": {FIRST: [0.1 + turn.lap]}}
    else:
        kinds = {"resident": 3000 * job.slices, "python": 1000 * job.slices, "tensors": 0}
        yield {**job.key(), "stages": {"later round": kinds}, "peak": None, "image": 2000 * job.slices}


def test_a_run_goes_on_where_it_stopped(tmp_path: Path):
    plan = Plan((32, 48), 4, 3, (1,), ("fp32",), 2, ("tiny", "xmem"), (("tiny", (4, 8)),), memory_repeats=2)
    asked: list[Any] = []

    def run(job: LapJob | HoldJob, stop: int = 999) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(fake_rows(job)):
            if number == stop:
                raise KeyboardInterrupt
            asked.append(row)
            yield row

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, Record(tmp_path, "speed", "c", {}), lambda job: run(job, 3))
    assert [r["kind"] for r in asked] == ["memory"] * 8 + ["lap"] * 3
    record = Record(tmp_path, "speed", "c", {})
    carry_out(plan, record, run)
    assert len(asked) == 2 * (2 * 2 + 2 * 2), "every measurement once"
    memory = [(r["size"], r["repeat"], r["slices"]) for r in asked if r["kind"] == "memory"]
    assert memory[:4] == [(32, 0, 4), (32, 0, 8), (32, 1, 4), (32, 1, 8)]
    carry_out(plan, record, run)
    assert len(asked) == 16
    text = write_speed_report(record).read_text()
    assert "## 48 x 48 pixels, 1 thread, fp32" in text
    assert "| 8 slices / 4 slices | 2.00 | 2.00 | 2.00 | - | - |" in text
    assert (tmp_path / "speed.png").stat().st_size > 5000


def test_rows_come_from_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    program = (
        "import sys,json; c=json.load(sys.stdin); print('noise'); print('row: '+json.dumps(c['job'])); sys.exit({})"
    )

    class Popen(worker.subprocess.Popen):  # type: ignore[type-arg]
        status = 0

        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__([command[0], "-c", program.format(self.status)], **options)

    monkeypatch.setattr(worker.subprocess, "Popen", Popen)
    job = HoldJob("tiny", 32, 4)
    assert list(worker.in_own_process(job)) == [vars(job)]
    rows = list(worker.in_own_process(JOB))
    assert LapJob.from_json(rows[0]) == JOB
    Popen.status = 3
    with pytest.raises(LimnetError, match=r"status 3.*goes on from there"):
        list(worker.in_own_process(job))


def test_options():
    parser = speed.build_parser()
    assert speed.plan_of(parser.parse_args(["--out", "x"])) == STANDARD
    assert speed.plan_of(parser.parse_args(["--out", "x", "--quick"])) == QUICK
    words = "--out x --full --sizes 64,96 --threads 1 --repeats 5 --slices 7 --methods tiny,base --precisions bf16"
    assert speed.plan_of(parser.parse_args(words.split())) == replace(
        FULL, sizes=(64, 96), threads=(1,), repeats=5, slices=7, methods=("tiny", "base"), precisions=("bf16",)
    )
    assert STANDARD.methods == tuple(METHODS)
    with pytest.raises(InputError, match="'xnet' is unknown"):
        speed.plan_of(parser.parse_args(["--out", "x", "--methods", "xnet"]))
    with pytest.raises(SystemExit):
        parser.parse_args(["--out", "x", "--sizes", "0"])


def test_the_seed_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed, "carry_out", lambda plan, record: record.add({"method": "tiny"}))
    monkeypatch.setattr(speed, "write_speed_report", lambda record: record.path)
    speed.main(["--out", str(tmp_path), "--quick"])
    fixed = json.loads((tmp_path / "speed.json").read_text())["fixed"]
    assert fixed["seed"] == 0
    assert len(fixed["model"]["sha256"]) == 64
