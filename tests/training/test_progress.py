"""A training says how far it is, and never trains over the outcome of another one."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("lightning")

from limnet.errors import InputError
from limnet.training.callbacks import StepProgress, in_words
from limnet.training.train import check_out
from tests.helpers.recipes import recipe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def played(file: io.StringIO, monkeypatch: pytest.MonkeyPatch, minutes: float | None = None, first: int = 0) -> str:
    """Twenty steps of 100, ten seconds each, from a step on; two batches make a step."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = StepProgress(100, minutes, file)
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=first, progress_bar_metrics={"train/loss": 0.5})
    module: Any = None
    shown.on_train_start(trainer, module)
    for step in range(first + 1, first + 21):
        for part in (0, 1):
            now[0] += 5
            trainer.global_step = step - 1 + part
            shown.on_train_batch_end(trainer, module)
    shown.on_train_end(trainer, module)
    return file.getvalue()


def test_lines_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = played(io.StringIO(), monkeypatch).splitlines()
    assert lines[0] == "step 3 of 100, 16 min left, train/loss 0.5"  # 97 steps of 10 s
    assert lines[-1] == "step 18 of 100, 14 min left, train/loss 0.5"
    assert len(lines) == 6  # one in half a minute


def test_time_left_of_resumed_and_of_timed_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    last = played(io.StringIO(), monkeypatch, first=80).splitlines()[-1]
    assert last == "step 100 of 100, 0 s left, train/loss 0.5"
    assert played(io.StringIO(), monkeypatch, minutes=4).splitlines()[-1].startswith("step 18 of 100, 1 min left")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    text = played(Terminal(), monkeypatch)
    assert "20/100" in text
    assert "13 min left, train/loss 0.5" in text


def test_other_processes_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    shown = StepProgress(10, None, file)
    trainer: Any = SimpleNamespace(is_global_zero=False, global_step=0, progress_bar_metrics={})
    module: Any = None
    shown.on_train_start(trainer, module)
    trainer.global_step = 10
    shown.on_train_batch_end(trainer, module)
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_recipe_shows_its_steps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--accelerator", "cpu", "--steps", "2", "--batch-size", "2", "--size", "32", "--out", str(tmp_path / "a")]
    recipe("stage3").main(words)
    said = capfd.readouterr()
    assert "step 2 of 2, 0 s left, train/loss" in said.err
    assert "Epoch" not in said.err + said.out
    assert "train/loss" in (tmp_path / "a" / "metrics.csv").read_text()
    kept = (tmp_path / "a" / "network.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=r"holds a trained network already \(network\.safetensors\)"):
        recipe("stage3").main([*words, "--seed", "5"])
    assert (tmp_path / "a" / "network.safetensors").read_bytes() == kept
    recipe("stage3").main([*words, "--seed", "5", "--overwrite"])
    assert (tmp_path / "a" / "network.safetensors").read_bytes() != kept


@pytest.mark.parametrize("name", ["last.ckpt", "interaction/config.json", "quality/config.json", "network.safetensors"])
def test_what_counts_as_trained(name: str, tmp_path: Path) -> None:
    check_out(tmp_path / "new", False, False)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "metrics.csv").touch()
    check_out(tmp_path, False, True)
    with pytest.raises(InputError, match=name):
        check_out(tmp_path, False, False)
    if name == "last.ckpt":
        check_out(tmp_path, True, False)
    else:
        with pytest.raises(InputError, match="give another --out, or --overwrite"):
            check_out(tmp_path, True, False)
