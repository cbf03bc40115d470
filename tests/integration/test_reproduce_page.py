"""docs/reproduce.md: every command on it is one, with options that there are; its numbers are the published ones."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from benchmarks.cli import parser_of
from benchmarks.core.published import published_table
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
