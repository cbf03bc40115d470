"""recipes/reproduce.sh as a program: its steps, where it stops and where it goes on. CI runs it whole, with --fakes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "recipes" / "reproduce.sh"
TRAINED = ["stage1", "stage2", "stage3", "propagation"]
TABLES = ["table1", "table2", "figure3", "table4", "table5", "table6"]
STEPS = ["convert", *TRAINED, "baseline", "defects", "quality", "release", *TABLES, "runtime", "report"]
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def reproduce(folder: Path, *words: str, python: str = "true") -> subprocess.CompletedProcess[str]:
    """With an interpreter that succeeds or fails at once."""
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run([str(SCRIPT), *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("KiTS19", "amos22"):
        (tmp_path / "DATA" / name).mkdir(parents=True)
    return tmp_path


def test_a_finished_step_is_not_done_again(folder: Path) -> None:
    assert reproduce(folder).returncode == 0
    again = reproduce(folder)
    assert again.stdout.count("done before") == len(STEPS)
    (folder / "reproduction" / "steps" / "table4.done").unlink()
    assert re.findall(r"(\w+) \.\.\.", reproduce(folder).stdout) == ["table4"]


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


def test_commands_of_every_step(folder: Path) -> None:
    text = reproduce(folder, "--print", "--devices", "8").stdout
    assert re.findall(r"^# (\w+)", text, re.M) == STEPS
    assert len(re.findall("--devices 8", text)) == 11
    assert re.findall(r"--mix (\S+)", text) == [
        *(f"paper-{name}" for name in TRAINED),
        "paper-quality",
        "paper-quality",
    ]


def test_mistakes_and_help(folder: Path) -> None:
    assert "table6, runtime, report" in reproduce(folder, "--help").stdout
    for words in (["--fake"], ["--data"]):
        end = reproduce(folder, *words)
        assert end.returncode == 2
        assert f"reproduce: {words[0]}" in end.stderr
    assert not (folder / "reproduction").exists()
