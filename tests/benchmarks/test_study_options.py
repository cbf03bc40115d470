from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

from benchmarks.core.studies.options import command_of, study_parser

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


@pytest.mark.parametrize("script", ["speed", "cost"])
def test_numbers_of_threads_are_named_once(script: str) -> None:
    parser = importlib.import_module(f"benchmarks.analyses.{script}").build_parser()
    args = parser.parse_args(["--out", "/somewhere/out", "--threads", "2,4"])
    command = shlex.split(command_of(script, parser, args))
    assert command.count("--threads") == 1
    assert vars(parser.parse_args([*command[3:], "--out", "/somewhere/out"])) == vars(args)
