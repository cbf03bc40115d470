"""Clips drawn while the training runs, for accelerators that shards drawn ahead cannot feed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from limnet.datasets.clip_drawer import ClipDrawer
from limnet.datasets.clip_pool import BLOCK, ClipPool, DrawnBlocks
from limnet.datasets.open import load_sources, read_weights

# Half of the targets in several pieces are cut down to one piece: people mean either.
SHARES: dict[str, Any] = {"paint": 0.3, "parts": 0.5, "synthetic": 0.15, "pasted": 0.12}
# The click network gets pairs of slices, the second of which may lie further away (`InteractionModule.start_from`).
DRAWN: dict[str, dict[str, Any]] = {
    "interaction": {"span": (0.08, 0.75), "defects": 0.12, "gaps": (1, 1, 2, 3, 4, 6), **SHARES},
    "propagation": {"span": (0.12, 0.6), "gaps": (1, 1, 1, 2, 3), **SHARES},
}
HELD_SPAN = (0.12, 0.6)
HELD_BATCH = 40
PAIR = 2


class LiveDataModule(LightningDataModule):
    """Batches from a `ClipPool` on the training's device; validation on clips of the volumes held out, if any.

    Args:
        roots: folders with manifest.json (`limnet.datasets.open`).
        task: "interaction" or "propagation".
        batch_size: clips per process and step.
        size: side of the windows in network pixels.
        length: slices of a clip of "propagation"; "interaction" has pairs.
        pool: clips kept on the device.
        workers: processes that draw; at least one is started.
        seed: of everything drawn.
        held: clips of the validation.
        weights: file that says how often groups of files are drawn (`read_weights`); all alike without one.
    """

    def __init__(
        self,
        roots: Path | Sequence[Path],
        task: str,
        batch_size: int,
        size: int,
        length: int,
        pool: int,
        workers: int,
        seed: int = 0,
        held: int = 320,
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        self.roots, self.task, self.batch_size, self.size = roots, task, batch_size, size
        self.length = PAIR if task == "interaction" else length
        self.pool, self.workers, self.seed, self.held = pool, max(workers, 1), seed, held
        self.weights = weights

    def train_dataloader(self) -> ClipPool:
        """Endless batches of image, mask and start mask."""
        sources = load_sources(self.roots, "train", read_weights(self.weights, "train"))
        drawer = ClipDrawer(sources, self.length, self.size, **DRAWN[self.task])
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        first = min(self.pool, max(8 * self.batch_size, BLOCK))
        return ClipPool(DrawnBlocks(drawer, self.seed), self.batch_size, self.pool, first, self.workers, device)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The same clips every time, in batches of 40; nothing where no volume is held out."""
        sources = load_sources(self.roots, "val", read_weights(self.weights, "val"))
        if not sources:
            return []
        length = 1 if self.task == "interaction" else self.length
        drawer = ClipDrawer(sources, length, self.size, HELD_SPAN, paint=0.0, parts=1.0, synthetic=0.0)
        rng = np.random.default_rng([77, self.length])
        clips = [drawer.draw(rng) for _ in range(self.held)]
        image, mask, _ = (torch.from_numpy(np.stack(part).astype(np.uint8)) for part in zip(*clips, strict=True))
        return DataLoader(TensorDataset(image, mask), HELD_BATCH)
