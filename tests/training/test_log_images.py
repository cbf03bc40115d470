from __future__ import annotations

import argparse
import sys
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
    draw_grid,
)
from limnet.training.train import keep_metrics, make_loggers
from tests.helpers.recipes import recipe


def pictures(count: int = 3, size: int = 16) -> Pictures:
    truth, mask = torch.zeros(2, count, size, size, dtype=torch.bool)
    truth[:, 3:9, 3:9], mask[:, 3:9, 5:12] = True, True
    image = torch.full((count, size, size), 0.5)
    return Pictures(image, truth, mask, [[(5, 7, True), (12, 2, False)]] * count)


def test_contours_are_inner_borders() -> None:
    mask = torch.zeros(1, 7, 7, dtype=torch.bool)
    mask[0, 1:6, 2:6] = True
    expected = mask[0].numpy().copy()
    expected[2:5, 3:5] = False
    grid = draw_grid(Pictures(torch.zeros(1, 7, 7), mask & False, mask), scale=1)
    np.testing.assert_array_equal((grid == MASK).all(2), expected)


def test_colours_and_places() -> None:
    grid = draw_grid(pictures(1), scale=1)
    assert grid.shape == (16, 16, 3)
    assert tuple(grid[3, 3]) == TRUTH
    assert tuple(grid[6, 11]) == MASK
    assert tuple(grid[3, 5]) == BOTH
    assert tuple(grid[5, 7]) == POSITIVE
    assert tuple(grid[12, 2]) == NEGATIVE
    assert tuple(grid[14, 14]) == (127, 127, 127)
    assert draw_grid(pictures(1), scale=3).shape == (48, 48, 3)
    assert draw_grid(pictures(1)).shape[0] == 256


def test_grid() -> None:
    grid = draw_grid(pictures(7), count=5, columns=3, scale=1)
    assert grid.shape == (2 * 16 + GAP, 3 * 16 + 2 * GAP, 3)
    np.testing.assert_array_equal(grid[:16, :16], grid[16 + GAP :, 16 + GAP : 32 + GAP])
    assert not grid[16 + GAP :, -16:].any()  # five of six places


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
