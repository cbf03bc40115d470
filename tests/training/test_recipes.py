"""The recipes one after the other on a few tiny clips: labelled volumes, shards, interaction, propagation."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch

from limnet.datasets.shards import ShardDataset
from limnet.hub.folder import load_component

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_volumes(root: Path) -> None:
    rows, columns = np.mgrid[:40, :40]
    label = np.broadcast_to((rows - 20) ** 2 + (columns - 18) ** 2 < 90, (12, 40, 40)).astype(np.uint8)
    image = (label * 150 + np.random.default_rng(0).integers(-40, 40, label.shape)).astype(np.int16)
    entries = []
    for file in ("train/ts_ct_abdomen_1.npz", "val/ts_ct_dicom_1.npz"):
        (root / file).parent.mkdir(parents=True)
        np.savez_compressed(root / file, image=image, label=label, spacing=np.array([1.5, 1.5, 1.5], np.float32))
        entries.append({"file": file, "modality": "CT"})
    (root / "manifest.json").write_text(json.dumps({"volumes": entries}))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes")
    write_volumes(root)
    common = ["--data", str(root), "--out", str(root / "shards"), "--size", "32", "--synthetic", "0"]
    for kind, split in (("d2", "train"), ("val2d", "val"), ("clip", "train"), ("valclip", "val")):
        recipe("make_shards").main([*common, "--kind", kind, "--split", split, "--count", "4"])
    return root / "shards"


def test_shards_depend_on_their_seed_and_number(shards: Path, tmp_path: Path) -> None:
    data = ShardDataset(shards, "clip_*")
    assert len(data) == 4
    assert data[0][0].shape == (8, 32, 32)
    assert all(bool(data[i][1][0].any()) for i in range(4))
    again = ["--data", str(shards.parent), "--out", str(tmp_path), "--size", "32", "--synthetic", "0"]
    recipe("make_shards").main([*again, "--kind", "d2", "--count", "4", "--shards", "2"])
    first, second = (np.load(tmp_path / f"d2_{i}_image.npy") for i in (1, 2))
    assert np.array_equal(first, np.load(shards / "d2_1_image.npy"))
    assert not np.array_equal(first, second)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_interaction_then_propagation(shards: Path, tmp_path: Path) -> None:
    common = ["--shards", str(shards), "--steps", "1", "--batch-size", "2", "--accelerator", "cpu"]
    recipe("stage1").main([*common, "--validate-every", "1", "--out", str(tmp_path / "a")])
    interaction = load_component(tmp_path / "a" / "interaction", "interaction")
    recipe("propagation").main(
        [*common, "--init", str(tmp_path / "a" / "interaction"), "--validate-every", "1", "--out", str(tmp_path / "b")]
    )
    propagation = load_component(tmp_path / "b" / "propagation", "propagation")
    for name, value in interaction.encoder.state_dict().items():  # type: ignore[union-attr, operator]
        assert torch.equal(propagation.encoder.state_dict()[name], value), name  # type: ignore[union-attr, operator]
    assert (tmp_path / "a" / "metrics.csv").read_text().count("val/dice_1") == 1
