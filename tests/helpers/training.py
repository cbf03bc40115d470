"""Tiny shards and short trainings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from limnet.data.loading import ClipLoader
from limnet.data.shards import ShardDataset


def write_shard(folder: Path, count: int = 11, length: int = 1, size: int = 32) -> ShardDataset:
    """Noisy pictures of disks that move from slice to slice."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((count, length, size, size), np.uint8)
    mask = np.zeros(image.shape, bool)
    for i in range(count):
        centre, radius = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.15, 0.3) * size
        for t in range(length):
            mask[i, t] = (rows - centre[0] - t) ** 2 + (columns - centre[1]) ** 2 <= radius**2
            image[i, t] = np.clip(rng.normal(90 + 80 * mask[i, t], 12), 0, 255)
    np.save(folder / "a_image.npy", image)
    np.save(folder / "a_mask.npy", np.packbits(mask.reshape(count, length, -1), axis=-1))
    return ShardDataset(folder, "a")


class Curve(Callback):
    """Losses by step."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses[trainer.global_step] = float(trainer.callback_metrics["train/loss"])


def fit(
    module: LightningModule, data: ShardDataset, folder: Path, steps: int, resume: Path | None = None, batch: int = 3
) -> Curve:
    """Train for some steps, with a checkpoint after every second one (`step=N.ckpt`)."""
    curve = Curve()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[curve, ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)],
    )
    trainer.fit(module, ClipLoader(data, batch), ClipLoader(data, batch, fixed=True), ckpt_path=resume)
    return curve


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
