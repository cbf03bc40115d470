"""What two processes must agree on: weights, validation figures, the end by the clock, errors. One run shows it all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch

from limnet.hub.folder import load_component
from limnet.training.launch import free_port
from tests.training.test_launch import RECIPES, run

# Two recipes first. Then process 1 has a clock of its own, ten times as fast.
SCRIPT = """
import json, os, runpy, sys, time
from pathlib import Path

recipes, out = sys.argv[1:]
for name in ("stage3", "propagation"):
    sys.argv = [name, "--smoke", "--accelerator", "cpu", "--out", f"{out}/{name}"]
    runpy.run_path(f"{recipes}/{name}.py", run_name="__main__")

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
Path(out, f"{rank}.json").write_text(json.dumps(told))
"""


@pytest.mark.slow
def test_what_two_processes_agree_on(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    run([*torchrun, str(tmp_path / "script.py"), str(RECIPES), str(tmp_path)])
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    # those that the Trainer starts train one network as those that a launcher has started
    words = ["--devices", "2", "--smoke", "--accelerator", "cpu", "--out", str(tmp_path / "own")]
    run([sys.executable, str(RECIPES / "stage3.py"), *words])
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("stage3", "own")]
    assert (results[0]["world_size"], results[0]["steps"]) == (2, 2)
    assert results[0] == results[1]
    assert load_component(tmp_path / "propagation" / "propagation", "propagation") is not None
    state = torch.load(tmp_path / "propagation" / "last.ckpt", map_location="cpu", weights_only=True)
    assert state["global_step"] == 3
    assert json.loads(json.dumps(state["hyper_parameters"])) == state["hyper_parameters"]

    # a figure is the mean over all samples: 81, 41 and 40 of them, the last batches of different sizes
    assert [t["mean"] for t in told] == pytest.approx([sum(i**2 for i in range(81)) / 81] * 2, rel=1e-6)

    # the clock of the first process ends both
    assert told[0]["steps"] == told[1]["steps"] == 7, "six minutes after the first step"
    assert told[0]["rates"] == told[1]["rates"]
    assert len(set(told[0]["rates"])) > 3

    # accuracy counts the pairs of all processes
    for each in told:
        assert each["some"]["val/accuracy"] == pytest.approx(2 / 3)
        assert each["some"]["val/gain"] == pytest.approx(0.05)
        assert "val/accuracy" not in each["ties"]
        assert each["ties"]["val/gain"] == 0

    # no process is left without samples
    assert [t["synthetic"] for t in told] == [1, 1]
    assert told[0]["error"] == told[1]["error"]
    assert "1 validation sample(s) cannot be shared among 2 processes" in told[0]["error"]
