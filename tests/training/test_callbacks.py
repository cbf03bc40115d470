"""What callbacks and loggers tell of a training, and that it never goes over the outcome of another one."""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from limnet.errors import InputError
from limnet.training.callbacks import (
    BOTH,
    GAP,
    MASK,
    NEGATIVE,
    POSITIVE,
    TRUTH,
    LogImages,
    Pictures,
    StepProgress,
    draw_grid,
    in_words,
)
from limnet.training.train import check_out, keep_metrics, make_loggers
from tests.helpers.recipes import recipe


def pictures(count: int = 3, size: int = 16) -> Pictures:
    truth, mask = torch.zeros(2, count, size, size, dtype=torch.bool)
    truth[:, 3:9, 3:9], mask[:, 3:9, 5:12] = True, True
    image = torch.full((count, size, size), 0.5)
    return Pictures(image, truth, mask, [[(5, 7, True), (12, 2, False)]] * count)


def test_contours_are_inner_borders() -> None:
    mask = torch.zeros(1, 256, 256, dtype=torch.bool)
    mask[0, 1:6, 2:6] = True
    expected = mask[0].numpy().copy()
    expected[2:5, 3:5] = False
    grid = draw_grid(Pictures(torch.zeros(1, 256, 256), mask & False, mask), 1)
    np.testing.assert_array_equal((grid == MASK).all(2), expected)


def test_colours_and_places() -> None:
    grid = draw_grid(pictures(1, 256), 1)
    assert grid.shape == (256, 256, 3)
    assert tuple(grid[3, 3]) == TRUTH
    assert tuple(grid[6, 11]) == MASK
    assert tuple(grid[3, 5]) == BOTH
    assert tuple(grid[5, 7]) == POSITIVE
    assert tuple(grid[12, 2]) == NEGATIVE
    assert tuple(grid[14, 14]) == (127, 127, 127)
    assert draw_grid(pictures(1, 80), 1).shape == (240, 240, 3)


def test_grid() -> None:
    grid = draw_grid(pictures(7, 256), 6)
    assert grid.shape == (2 * 256 + GAP, 4 * 256 + 3 * GAP, 3)
    np.testing.assert_array_equal(grid[:256, :256], grid[256 + GAP :, 256 + GAP : 512 + GAP])
    assert not grid[256 + GAP :, 512 + GAP :].any()  # six of eight places


def test_first_batch_of_the_first_process_is_drawn(tmp_path: Path) -> None:
    import SimpleITK

    sent: list[Any] = []
    logger = SimpleNamespace(log_image=lambda key, images: sent.append((key, images[0].shape)))
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=20, loggers=[SimpleNamespace(), logger])
    module: Any = None
    callback, outputs = LogImages(tmp_path / "images", 2), {"pictures": pictures()}
    callback.on_validation_batch_end(trainer, module, outputs, None, 1)
    callback.on_validation_batch_end(trainer, module, None, None, 0)
    trainer.is_global_zero = False
    callback.on_validation_batch_end(trainer, module, outputs, None, 0)
    assert not sent
    assert not (tmp_path / "images").exists()
    trainer.is_global_zero = True
    callback.on_validation_batch_end(trainer, module, outputs, None, 0)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "images" / "step_000020.png")))
    np.testing.assert_array_equal(read, draw_grid(pictures(), 2))
    assert sent == [("val/masks", read.shape)]


def test_metrics_before_a_resume_are_kept(tmp_path: Path) -> None:
    assert keep_metrics(tmp_path) is None
    for number in (1, 2):
        (tmp_path / "metrics.csv").write_text(str(number))
        kept = keep_metrics(tmp_path)
        assert kept == tmp_path / f"metrics.{number}.csv"
        assert kept.read_text() == str(number)
    assert not (tmp_path / "metrics.csv").exists()


def test_wandb_is_imported_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it fails from here on
    options = {"out": tmp_path, "resume": False, "wandb_project": "x"}
    assert len(make_loggers(argparse.Namespace(**options, wandb=None))) == 1
    with pytest.raises(InputError, match="--wandb needs the wandb package"):
        make_loggers(argparse.Namespace(**options, wandb="offline"))


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_takes_figures_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    words = ["train", "--smoke", "--accelerator", "cpu", "--out", str(tmp_path), "--wandb", "offline"]
    try:
        recipe("quality").main([*words, "--wandb-project", "mine"])
        assert wandb.run.project == "mine"
        assert "val/gain" in dict(wandb.run.summary)
    finally:
        wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert len(list(folder.rglob("*.png"))) == 1
    assert (tmp_path / "metrics.csv").is_file()


# progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def played(file: io.StringIO, monkeypatch: pytest.MonkeyPatch, minutes: float | None = None, first: int = 0) -> str:
    """Twenty steps of 100, ten seconds each, from a step on; two batches make a step."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", file)
    shown = StepProgress(100, minutes)
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


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    shown = StepProgress(10)
    trainer: Any = SimpleNamespace(is_global_zero=False, global_step=0, progress_bar_metrics={})
    module: Any = None
    shown.on_train_start(trainer, module)
    trainer.global_step = 10
    shown.on_train_batch_end(trainer, module)
    assert capsys.readouterr().err == ""


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
