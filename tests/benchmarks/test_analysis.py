from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from benchmarks.core.analysis import Comparison, parser_of
from benchmarks.core.record import Record, command_of
from benchmarks.core.run import run
from benchmarks.core.suite import Target
from limnet.errors import FileFormatError
from tests.helpers.bench import fake_suite

BASE = ["--data", "/somewhere/data", "--out", "/somewhere/out"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--threads", "1"],
        ["--threads", "2", "--rounds", "3", "--per-case", "4", "--only", "spleen", "--seed", "7"],
        ["--split", "test", "--model", "other"],
    ],
)
def test_command_repeats_the_run(given: list[str]) -> None:
    parser = parser_of("An analysis.")
    args = parser.parse_args([*BASE, *given])
    command = shlex.split(command_of("name", parser, args))
    assert command[:2] == ["limnet", "bench"]
    assert "/somewhere" not in " ".join(command)
    again = parser.parse_args([*command[3:], "--out", "/somewhere/out"])
    assert vars(again) == {**vars(args), "data": Path("ROOT")}


def test_rows_are_measured_once(tmp_path: Path) -> None:
    seen = []

    def measure(target: Target) -> dict:
        seen.append(target.object)
        if target.object == "organ":
            raise MemoryError("too large")
        return {"dice": [0.5]}

    def measured(fresh: bool = False, rounds: int = 1) -> Record:
        record = Record(tmp_path / "x.json", {"rounds": rounds})
        record.resume(fresh)
        with record.open():
            run(record, fake_suite(1), {"a": measure}, lambda row: None)
        record.finish({}, "table")
        return record

    names = ["organ", "lesion 1", "lesion 2"]
    first = measured()
    assert seen == names
    assert [row["object"] for row in first.rows] == names[1:]
    assert [row["error"] for row in first.errors] == ["MemoryError: too large"]
    assert measured().rows == first.rows
    assert seen == [*names, "organ"], "what failed is tried again"
    (tmp_path / "x.part1.jsonl").write_text('{"key": "another run, not finished"}\n{"cut sho')
    measured(rounds=2)
    assert (tmp_path / "x.part1.jsonl").exists()
    assert len(list(tmp_path.glob("x.????????.json"))) == 1, "rows of other settings are kept"
    measured(fresh=True)
    assert seen == [*names, "organ", *names, *names]
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(FileFormatError, match="no result of limnet bench"):
        measured(fresh=True)


def test_variants_are_compared_on_objects_that_all_have() -> None:
    record = Record(Path("x.json"), {})
    for variant, object, group, dice in (
        ("a", "1", "g", [0.4]),
        ("a", "2", "h", [0.5, 0.7]),
        ("b", "1", "g", [0.2, 0.6]),
    ):
        record.take([{"variant": variant, "case": "c", "object": object, "group": group, "dice": dice}])
    found = Comparison.of(record, ["a", "b"], 2)
    assert found.groups == ["all"]
    assert (found.count(), found.curve("a"), found.curve("b")) == (1, [0.4, 0.4], [0.2, 0.6])
    assert "| all | 1 | b | 0.200 | 0.600 | x |" in found.table("method", ["more"], lambda g, v: ["x"], (1, 2))
