from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from benchmarks.core.record import Record
from benchmarks.core.study import command_of, study_objects, study_parser, sweep
from limnet.errors import InputError
from tests.helpers.bench import fake_suite

BASE = ["--data", "/somewhere/data", "--out", "/somewhere/out"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--threads", "1"],
        ["--threads", "2", "--rounds", "3", "--per-file", "4", "--only", "spleen", "--seed", "7"],
        ["--split", "test", "--model", "other"],
    ],
)
def test_command_repeats_the_run(given: list[str]) -> None:
    parser = study_parser("A study.")
    args = parser.parse_args([*BASE, *given])
    command = shlex.split(command_of("study", parser, args))
    assert command[:2] == ["limnet", "bench"]
    assert "/somewhere" not in " ".join(command)
    again = parser.parse_args([*command[3:], "--out", "/somewhere/out"])
    assert vars(again) == {**vars(args), "data": Path("ROOT")}


def test_rows_are_measured_once(tmp_path: Path) -> None:
    things = list(study_objects(fake_suite(1)))
    seen = []

    def measure(thing):
        seen.append(thing.object)
        return {"dice": [0.5]}

    def record(**options) -> Record:
        return Record(tmp_path, "study", "limnet bench study", {"rounds": 1}, **options)

    for _ in range(2):
        sweep(record(), things, {"a": measure})
        assert seen == [thing.object for thing in things]
    sweep(record(fresh=True), things, {"a": measure})
    assert len(seen) == 2 * len(things)
    with pytest.raises(InputError, match="another rounds: give another --out, or --fresh"):
        Record(tmp_path, "study", "", {"rounds": 2})
