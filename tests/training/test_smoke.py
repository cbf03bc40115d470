"""`--smoke` of every recipe: in this process, on two processes, and under every launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch

from limnet.hub.folder import load_component
from limnet.training.launch import free_port
from tests.helpers.recipes import RECIPES, recipe

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("name", "words", "role", "network", "metric"),
    [
        ("stage1", [], "interaction", "TinyInteraction", "val/dice_6"),
        ("stage1", ["--preset", "paper"], "interaction", "HRNetOCR", "val/noc85"),
        ("stage2", [], "interaction", "TinyInteraction", "val/dice_6"),
        ("propagation", [], "propagation", "TinyPropagation", "val/dice_carried"),
        ("propagation", ["--preset", "paper"], "propagation", "XMem", "val/dice_carried"),
        ("quality", ["train"], "quality", "TinyQuality", "val/gain"),
        ("quality", ["train", "--preset", "paper"], "quality", "ResNetQuality", "val/gain"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_recipe(name: str, words: list[str], role: str, network: str, metric: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    recipe(name).main([*words, "--smoke", "--accelerator", "cpu", "--out", str(tmp_path)])
    assert torch.get_num_threads() == threads
    assert type(load_component(tmp_path / role, role)).__name__ == network
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert metric in header
    assert "train/loss" in header
    assert any(column.startswith("lr-") for column in header)
    assert (tmp_path / "last.ckpt").is_file()
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


def run(words: list[str]) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LT_", "PYTEST_XDIST"))}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=env, cwd=RECIPES.parent, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr[-4000:]}"


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    torchrun = [str(BIN / "torchrun"), "--nproc_per_node=2", f"--master_port={free_port()}"]
    rest = ["--smoke", "--accelerator", "cpu", "--out", str(tmp_path)]
    run([*torchrun, str(RECIPES / "propagation.py"), *rest])
    assert load_component(tmp_path / "propagation", "propagation") is not None
    state = torch.load(tmp_path / "last.ckpt", map_location="cpu", weights_only=True)
    assert state["global_step"] == 3
    assert json.loads(json.dumps(state["hyper_parameters"])) == state["hyper_parameters"]


# The other launchers in one interpreter, one after the other, which saves importing torch three times.
DRIVER = """
import sys
from lightning.fabric.cli import _main
from limnet.training.launch import free_port, lightning_main, limnet_run
recipes, out = sys.argv[1:3]
rest = lambda name: ["--smoke", "--accelerator", "cpu", "--out", f"{out}/{name}"]
assert limnet_run([f"{recipes}/stage1.py", *rest("limnet")]) == 0
_main(["run", f"--main-port={free_port()}", f"{recipes}/stage2.py", *rest("fabric")], standalone_mode=False)
try:
    lightning_main(["run", "model", f"{recipes}/quality.py", "--", "train", *rest("lightning")])
except SystemExit as end:
    assert not end.code
"""


@pytest.mark.slow
def test_every_launcher(tmp_path: Path) -> None:
    run([sys.executable, "-c", DRIVER, str(RECIPES), str(tmp_path)])
    for folder, role in (("limnet", "interaction"), ("fabric", "interaction"), ("lightning", "quality")):
        load_component(tmp_path / folder / role, role)
