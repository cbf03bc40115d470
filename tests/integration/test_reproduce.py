"""docs/reproduce.md: every command on it is one, with options that there are; its numbers are the published ones."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from benchmarks.cli import parser_of
from benchmarks.core.report import published_table
from benchmarks.core.suite import SUITES, build_baseline
from limnet.cli import app
from limnet.datasets.counts import PAPER
from limnet.datasets.registry import dataset_names
from tests.helpers.recipes import recipe

PAGE = (Path(__file__).parents[2] / "docs/reproduce.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Words of all commands of the page that begin with limnet or python, with its variables put in."""
    text = "\n".join(re.findall(r"```\n(.*?)```", PAGE, re.S)).replace("\\\n", " ")
    given: dict[str, str] = {}
    found = []
    for line in text.splitlines():
        line = re.sub(r"\$(\w+)", lambda m: given.get(m[1], m[0]), line)
        if match := re.fullmatch(r'(\w+)="(.*)"', line):
            given[match[1]] = match[2]
        elif re.match(r"limnet |python recipes/", line):
            found.append(shlex.split(line))
    return found


def test_there_is_a_command_for_everything() -> None:
    lines = [" ".join(words) for words in commands()]
    for name in ("table1", "table2", "figure3", "table4", "table5", "table6", "runtime", "report"):
        assert any(line.startswith(f"limnet bench {name} ") for line in lines), name
    for stage in ("stage1", "stage2", "stage3", "propagation", "quality", "release"):
        assert any(line.startswith(f"python recipes/{stage}.py ") for line in lines), stage


class Parsed(Exception):
    """Options were understood; nothing is to be trained."""


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "python"], ids=" ".join)
def test_recipes_know_their_options(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(parser, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    with pytest.raises(Parsed):
        recipe(Path(words[1]).stem).main(words[2:])


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "limnet"], ids=" ".join)
def test_limnet_knows_its_options(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if words[1:2] == ["bench"] and words[2] in SUITES:
        for text in parser_of(words[2]).parse_args(words[3:]).baseline:
            build_baseline(text)
        return
    command: Any = get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def test_data_sets_are_known_and_counted_as_published() -> None:
    loop = re.search(r"for set in (.*?); do", PAGE, re.S)
    assert loop is not None
    names = {re.split("[=:]", entry)[0] for entry in loop[1].replace("\\", " ").split()}
    assert names <= set(dataset_names())
    assert {name for name, _ in PAPER} <= names
    for (name, _), splits in PAPER.items():
        row = next(line for line in PAGE.splitlines() if re.match(rf"\| `{name}` \| [^|]*\d", line))
        told = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", row.split("|")[2])]
        assert told == list(splits.values()), name


def test_rows_are_the_published_ones() -> None:
    for name, number in (("table1", "I"), ("table4", "IV"), ("table5", "V")):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {number} |") and "." in line.split("|")[2])
        ours = published_table(name).rows[-1]
        told = {float(value) for value in re.findall(r"\d+\.\d+", row.split("|")[2])}
        assert told == {round(100 * value, 2) for value in ours.values.values()}


# the script


SCRIPT = Path(__file__).parents[2] / "recipes" / "reproduce.sh"
TRAINED = ["stage1", "stage2", "stage3", "propagation"]
TABLES = ["table1", "table2", "figure3", "table4", "table5", "table6"]
STEPS = ["convert", *TRAINED, "baseline", "defects", "quality", "release", *TABLES, "runtime", "report"]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def reproduce(folder: Path, *words: str, python: str = "true") -> subprocess.CompletedProcess[str]:
    """With an interpreter that succeeds or fails at once."""
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run([str(SCRIPT), *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("KiTS19", "amos22"):
        (tmp_path / "DATA" / name).mkdir(parents=True)
    return tmp_path


@needs_bash
def test_a_finished_step_is_not_done_again(folder: Path) -> None:
    assert reproduce(folder).returncode == 0
    again = reproduce(folder)
    assert again.stdout.count("done before") == len(STEPS)
    (folder / "reproduction" / "steps" / "table4.done").unlink()
    assert re.findall(r"(\w+) \.\.\.", reproduce(folder).stdout) == ["table4"]


@needs_bash
def test_it_stops_at_the_first_failure_and_names_it(folder: Path) -> None:
    end = reproduce(folder, python="false")
    assert end.returncode == 1
    assert "step convert failed" in end.stderr
    shutil.rmtree(folder / "DATA" / "KiTS19")
    end = reproduce(folder)
    assert end.returncode == 1
    assert re.findall(r"(\w+) \.\.\.", end.stdout) == STEPS[:4]
    assert "none of the data sets is in DATA: Task10_Colon Task06_Lung KiTS19" in end.stderr
    assert "step stage3 failed" in end.stderr


@needs_bash
def test_commands_of_every_step(folder: Path) -> None:
    text = reproduce(folder, "--print", "--devices", "8").stdout
    assert re.findall(r"^# (\w+)", text, re.M) == STEPS
    assert len(re.findall("--devices 8", text)) == 11
    assert re.findall(r"--mix (\S+)", text) == [
        *(f"paper-{name}" for name in TRAINED),
        "paper-quality",
        "paper-quality",
    ]


@needs_bash
def test_mistakes_and_help(folder: Path) -> None:
    assert "table6, runtime, report" in reproduce(folder, "--help").stdout
    for words in (["--fake"], ["--data"]):
        end = reproduce(folder, *words)
        assert end.returncode == 2
        assert f"reproduce: {words[0]}" in end.stderr
    assert not (folder / "reproduction").exists()
