"""`--smoke` of every recipe, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch

from limnet.hub.folder import TABLE, load_component, name_of
from tests.helpers.recipes import recipe
from tests.helpers.small_xmem import PLACE


@pytest.mark.parametrize(
    ("name", "words", "role", "network", "metric"),
    [
        ("stage1", [], "interaction", "TinyInteraction", "val/dice_6"),
        ("stage1", ["--preset", "paper"], "interaction", "HRNetOCR", "val/noc85"),
        ("stage2", [], "interaction", "TinyInteraction", "val/dice_6"),
        ("propagation", [], "propagation", "TinyPropagation", "val/dice_carried"),
        ("propagation", ["--preset", "paper"], "propagation", "XMem", "val/dice_carried"),
        ("quality", ["train", "--minutes", "5"], "quality", "TinyQuality", "val/gain"),
        ("quality", ["train", "--preset", "paper"], "quality", "ResNetQuality", "val/gain"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_recipe(
    name: str, words: list[str], role: str, network: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XMem has few channels here; tests/tasks/test_xmem.py trains all of it, and recipes/reproduce.sh does."""
    monkeypatch.setitem(TABLE["propagation"], "XMem", PLACE)
    threads = torch.get_num_threads()
    recipe(name).main([*words, "--smoke", "--accelerator", "cpu", "--out", str(tmp_path)])
    assert torch.get_num_threads() == threads
    assert name_of(type(load_component(tmp_path / role, role)))[1] == network
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert metric in header
    assert "train/loss" in header
    assert any(column.startswith("lr-") for column in header)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert saved.get("max_minutes") == (5 if "--minutes" in words else None)
    assert (tmp_path / "images" / "step_000003.png").stat().st_size > 200


def test_collecting_defects(tmp_path: Path) -> None:
    words = ["collect", "--smoke", "--scope", "interval", "--starts", str(tmp_path / "d2_1")]
    recipe("quality").main([*words, "--out", str(tmp_path / "a.npz")])
    from limnet.data.defects import DefectDataset
    from limnet.data.shards import ShardDataset

    starts = ShardDataset(tmp_path, "d2_*")
    assert len(starts) >= 4
    pixels, truth, before = starts.read(0)
    assert pixels.shape == (1, 160, 160)
    assert bool((truth != before).any())
    data = DefectDataset(tmp_path / "a.npz")
    image, previous, current, dice, references = data[0, 0]
    assert image.shape == previous.shape == current.shape == (128, 128)
    assert references.shape == (7, 128, 128)
    newest = [data[0, row][4][[0, 5]] for row in range(len(data))]  # image and nearness of the slice prompted last
    assert any(bool(part.flatten(1).any(1).all()) for part in newest)
    assert len(data) >= 8
    assert bool((previous != current).any())
    assert dice.shape == (2,)


def test_defects_on_synthetic_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    from limnet.data.clips import Source

    real = Source(np.ones((8, 20, 20), np.uint8), (1.0, 1.0, 1.0), np.zeros((8, 20, 20), np.float32)).with_ids(300)
    monkeypatch.setattr("limnet.datasets.open.load_sources", lambda *_: [real])
    quality = recipe("quality")

    def shapes(*words: str) -> list[tuple[int, ...]]:
        args = quality.build_parser().parse_args(["collect", "--data", "x", "--out", "y", "--cases", "6", *words])
        drawn = list(quality.draw_targets(args))
        assert all(target.sum() >= 300 and target.shape == volume.shape for volume, target, _ in drawn)
        return [target.shape for _, target, _ in drawn]

    assert set(shapes()) == {(8, 20, 20)}
    assert set(shapes("--synthetic", "1")) == {(24, 128, 128)}
    assert set(shapes("--synthetic", ".5")) == {(8, 20, 20), (24, 128, 128)}
