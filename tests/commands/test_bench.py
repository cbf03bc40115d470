from __future__ import annotations

from pathlib import Path

import pytest

from limnet import cli
from tests.helpers.recipes import limnet


def test_an_installed_package_says_where_the_benchmarks_are(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert limnet("bench", "table1", "--data", "x") == 2
    assert "clone the repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [(["--help"], 0, "ablations"), (["no-such"], 2, "No such command"), (["table1", "--help"], 0, "--per-case")],
)
def test_in_a_clone_they_are_found(words: list[str], code: int, shown: str, capsys) -> None:
    assert limnet("bench", *words) == code
    found = capsys.readouterr()
    assert shown in found.out + found.err
