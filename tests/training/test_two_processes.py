"""What two processes must agree on: validation figures, the end by the clock, errors. One run shows all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("lightning")

from limnet.training.launch import free_port

# Process 1 has a clock of its own, ten times as fast.
SCRIPT = """
import json, os, sys, time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

rank, now = int(os.environ["RANK"]), [0.0]
time.monotonic = lambda: now[0]

from limnet.data.loading import ClipLoader
from limnet.datasets.synthetic import SyntheticDataModule
from limnet.errors import InputError
from limnet.tasks.quality import QualityModule
from limnet.training.callbacks import EndAfter
from limnet.training.launch import leave_group_at_exit
from limnet.tasks.base import Task, warmup_cosine

told = {"rates": []}
leave_group_at_exit()

class Numbers:
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __getitem__(self, key):
        return torch.tensor(float(key[1] ** 2)), torch.tensor(0)

class Clock(Callback):
    def on_train_batch_start(self, *_):
        now[0] += 60 * (10 if rank else 1)

class Small(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, index):
        told["rates"].append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.layer(batch[0]).sum()
    def validation_step(self, batch, index):
        Task.log_mean(self, "val/mean", batch[0].mean(), len(batch[0]))
    def configure_optimizers(self):
        groups = [{"params": [p]} for p in self.parameters()]
        optimizer = torch.optim.SGD(groups, lr=1e-3)
        return [optimizer], [{"scheduler": warmup_cosine(optimizer, 1, 1000, 6), "interval": "step"}]

class Fixed(torch.nn.Module):  # keeps the mask before, whatever it sees
    def forward(self, image, previous, current):
        return torch.ones(len(image))

def trainer(**more):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    return Trainer(**quiet, **more)

class Pairs:
    def __init__(self, gains):
        self.pixels, self.gains = torch.zeros(len(gains), 8, 8, dtype=torch.uint8), torch.tensor(gains)
    def __len__(self):
        return 1
    def __iter__(self):
        dice = torch.stack([0.5 + self.gains, torch.full_like(self.gains, 0.5)], 1)
        yield self.pixels, self.pixels, self.pixels, dice

one = trainer(max_steps=100, callbacks=[EndAfter(6), Clock()])
module = Small()
one.fit(module, DataLoader(TensorDataset(torch.ones(400, 1)), 1))
told["steps"] = one.global_step
told["mean"] = float(one.validate(module, ClipLoader(Numbers(81), 3, fixed=True), verbose=False)[0]["val/mean"])
quality = QualityModule({"widths": (16, 16, 16)})
quality.average = Fixed()
for name, gains in (("some", [[0.2, 0.2, -0.2], [0.0]][rank]), ("ties", [0.0])):
    found = trainer().validate(quality, Pairs(gains), verbose=False)[0]
    told[name] = {key: float(value) for key, value in found.items()}
told["synthetic"] = len(SyntheticDataModule(1, 32, length=6).val_dataloader())
try:
    ClipLoader(Numbers(1), 1, fixed=True)
except InputError as error:
    told["error"] = str(error)
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LT_", "PYTEST_XDIST"))}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    words = [*torchrun, str(folder / "script.py"), str(folder)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300, env=env, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_a_figure_is_the_mean_over_all_samples(told: list[dict[str, Any]]) -> None:
    """81 samples, 41 and 40 of them, the last batches of different sizes."""
    assert [t["mean"] for t in told] == pytest.approx([sum(i**2 for i in range(81)) / 81] * 2, rel=1e-6)


@pytest.mark.slow
def test_the_clock_of_the_first_process_ends_both(told: list[dict[str, Any]]) -> None:
    assert told[0]["steps"] == told[1]["steps"] == 7, "six minutes after the first step"
    assert told[0]["rates"] == told[1]["rates"]
    assert len(set(told[0]["rates"])) > 3


@pytest.mark.slow
def test_accuracy_counts_the_pairs_of_all_processes(told: list[dict[str, Any]]) -> None:
    for each in told:
        assert each["some"]["val/accuracy"] == pytest.approx(2 / 3)
        assert each["some"]["val/gain"] == pytest.approx(0.05)
        assert "val/accuracy" not in each["ties"]
        assert each["ties"]["val/gain"] == 0


@pytest.mark.slow
def test_no_process_is_left_without_samples(told: list[dict[str, Any]]) -> None:
    assert [t["synthetic"] for t in told] == [1, 1]
    assert told[0]["error"] == told[1]["error"]
    assert "1 validation sample(s) cannot be shared among 2 processes" in told[0]["error"]
