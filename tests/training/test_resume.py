"""Every LightningModule resumes exactly, with all a recipe turns on: bf16, clipping, schedule, validation between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from limnet.data.defects import DefectDataset
from limnet.data.module import SampleDataModule
from limnet.data.shards import ShardDataset
from limnet.hub.folder import TABLE
from limnet.tasks.interaction import InteractionModule
from tests.helpers.small_modules import TRAININGS, small_module
from tests.helpers.small_xmem import PLACE
from tests.helpers.training import same, snapshot, write_shard

STEPS = 5


class Journal(Callback):
    """Loss and learning rates of every step, and every validation figure with the step it came after."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.rates: dict[int, list[float]] = {}
        self.figures: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses[trainer.global_step] = float(trainer.callback_metrics["train/loss"])
        self.rates[trainer.global_step] = [group["lr"] for group in trainer.optimizers[0].param_groups]

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        self.figures[trainer.global_step] = found


OPTIONS: dict[str, dict[str, Any]] = {
    "interaction": {"clicks": 3},
    "ritm": {"drops": (1 / 3, 2 / 3), "validation_clicks": 6},
    "propagation": {},
    "xmem": {"frames": 3, "drops": (1 / 3, 2 / 3), "bootstrap": (1 / 6, 4 / 6)},
    "quality": {},
}


def write_defects(path: Path, count: int = 9) -> Path:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 32, 32), dtype=np.uint8)
    previous, current = (rng.random((count, 32, 32)) < 0.5 for _ in range(2))
    np.savez(path, image=image, previous=previous, current=current, dice=rng.random((count, 2), np.float32))
    return path


def data(kind: str, folder: Path) -> LightningDataModule:
    if kind == "quality":
        path = write_defects(folder / "defects.npz")
        return SampleDataModule(DefectDataset(path, 1), DefectDataset(path), 4, 8)
    write_shard(folder, 5, {"propagation": 3, "xmem": 4}.get(kind, 1))
    return SampleDataModule(ShardDataset(folder, "a", 1), ShardDataset(folder, "a"), 2, 3)  # two batches an epoch


def run(kind: str, folder: Path, resume: Path | None = None) -> tuple[LightningModule, Journal]:
    folder.mkdir()
    module, journal = small_module(kind, max_steps=6, learning_rate=1e-3, **OPTIONS[kind]), Journal()
    kept = [] if resume else [ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)]
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed",
        gradient_clip_val=0.1,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        enable_checkpointing=bool(kept),
        callbacks=[journal, *kept],
    )
    trainer.fit(module, datamodule=data(kind, folder), ckpt_path=resume)
    return module, journal


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.filterwarnings("ignore")
def test_the_curve_of_an_unbroken_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE["propagation"], "SmallXMem", PLACE)
    start = snapshot(small_module(kind).network)
    whole, curve = run(kind, tmp_path / "whole")
    assert sorted(curve.losses) == [1, 2, 3, 4, 5]
    assert sorted(curve.figures) == [3]
    assert len({tuple(r) for r in curve.rates.values()}) >= 3, "the schedule is at work"
    for step in (2, 4):
        resumed, rest = run(kind, tmp_path / f"from{step}", tmp_path / "whole" / f"step={step}.ckpt")
        assert rest.losses == {s: v for s, v in curve.losses.items() if s > step}
        assert rest.rates == {s: v for s, v in curve.rates.items() if s > step}
        assert rest.figures == {s: v for s, v in curve.figures.items() if s > step}
        assert same(snapshot(resumed.network), snapshot(whole.network))  # type: ignore[arg-type]
        assert same(snapshot(resumed.average), snapshot(whole.average))  # type: ignore[arg-type]
    ended, average = (snapshot(part) for part in (whole.network, whole.average))  # type: ignore[arg-type]
    assert not same(ended, start)
    assert same(average, ended) == (not whole.hparams["average_decay"])
    if kind == "interaction":  # the average follows, in the same direction
        key = "decoder.mix4.weight"
        assert 0 < float((average[key] - start[key]).norm()) < float((ended[key] - start[key]).norm())
        assert not torch.equal(average["encoder.stem.1.running_mean"], start["encoder.stem.1.running_mean"])
    if kind == "propagation":  # its image half is frozen, weights and statistics
        assert all(torch.equal(v, start[k]) for k, v in ended.items() if k.startswith("encoder."))
    saved = torch.load(tmp_path / "whole" / "step=5.ckpt", weights_only=True)["hyper_parameters"]
    assert json.loads(json.dumps(saved)) == dict(saved)


@pytest.mark.filterwarnings("ignore")
def test_clipping_bounds_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    before = InteractionModule.optimizer_step

    def watch(self: Any, *arguments: Any) -> None:
        before(self, *arguments)
        norms.append(
            float(torch.stack([p.grad.norm() for p in self.network.parameters() if p.grad is not None]).norm())
        )

    monkeypatch.setattr(InteractionModule, "optimizer_step", watch)
    run("interaction", tmp_path / "a")
    assert len(norms) == STEPS
    assert max(norms) == pytest.approx(0.1, rel=1e-3)
