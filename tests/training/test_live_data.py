from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from limnet.datasets import open as open_volumes
from limnet.errors import InputError
from limnet.hub.folder import load_component, save_component
from limnet.tasks.base import warmup_cosine
from limnet.training.callbacks import EndAfter
from tests.helpers.recipes import recipe
from tests.helpers.tiny_networks import small_interaction
from tests.training.test_recipes import write_volumes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    write_volumes(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_recipes_draw_while_they_train(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_volumes, "HELD", 6)
    words = ["--live", str(root), "--workers", "1", "--steps", "2", "--batch-size", "3", "--size", "32"]
    words += ["--accelerator", "cpu", "--validate-every", "2", "--images", "0", "--optimizer", "muon"]
    model = ["--init", "limnet-tiny", "--carrier", "limnet-tiny", "--carried", "1", "--own", "0"]
    recipe("stage2").main([*words, *model, "--out", str(tmp_path / "a")])
    assert "val/dice_6" in (tmp_path / "a" / "metrics.csv").read_text()
    trained = load_component(tmp_path / "a" / "interaction", "interaction")
    more = ["--length", "3", "--init", "limnet-tiny", "--prompter", str(tmp_path / "a"), "--prompted", "1"]
    recipe("propagation").main([*words, *more, "--train-encoder", "--out", str(tmp_path / "b")])
    assert "val/dice_carried" in (tmp_path / "b" / "metrics.csv").read_text()
    assert type(trained).__name__ == "TinyInteraction"


@pytest.mark.filterwarnings("ignore")
def test_a_training_ends_when_its_time_is_over(root: Path, tmp_path: Path) -> None:
    save_component(small_interaction(), tmp_path / "start")
    words = ["--live", str(root), "--workers", "1", "--steps", "1000000", "--batch-size", "2"]
    words += ["--size", "32", "--accelerator", "cpu", "--images", "0", "--init", str(tmp_path / "start")]
    recipe("stage1").main([*words, "--validate-every", "1000000", "--minutes", "0.01", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "interaction" / "model.safetensors").is_file()


def test_the_schedule_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("limnet.tasks.base.time.monotonic", lambda: now[0])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = warmup_cosine(optimizer, 1, 1000, minutes=2)
    rates = []
    for seconds in (0, 0, 60, 120, 500):
        now[0] = 100.0 + seconds
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] == pytest.approx(1.0)
    assert rates[2] == pytest.approx(0.505, abs=1e-3)
    assert rates[3] == rates[4] == pytest.approx(0.01)


def test_time_must_be_positive() -> None:
    with pytest.raises(InputError, match="more than 0"):
        EndAfter(0)


def test_what_is_drawn_does_not_depend_on_the_workers(root: Path) -> None:
    """But for synthetic volumes, of which each worker keeps its own for some draws."""
    alike: list[Any] = []
    for workers in (0, 2):
        data = open_volumes.drawn_data(root, "interaction", 2, 4, 32, 8, workers, seed=3)
        data.training.drawer.synthetic = 0.0
        alike.append(list(data.train_dataloader()))
    assert [part.shape for part in alike[0][0]] == [(2, 2, 32, 32)] * 3, "pairs with start masks"
    for first, second in zip(*alike, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    clips = open_volumes.drawn_data(root, "propagation", 2, 4, 32, 3)
    assert [part.shape for part in next(iter(clips.train_dataloader()))] == [(2, 3, 32, 32)] * 2
    held = clips.val_dataloader()
    assert len(held) == open_volumes.HELD // open_volumes.HELD_BATCH


def test_one_kind_of_data_only(root: Path, tmp_path: Path) -> None:
    words: list[Any] = ["--live", str(root), "--shards", str(tmp_path), "--out", str(tmp_path / "x")]
    with pytest.raises(SystemExit, match="say what to train on"):
        recipe("stage1").main(words)
