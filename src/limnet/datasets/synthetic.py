"""Synthetic slices, endless and free: the data set that needs no files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from limnet.data.loading import ClipLoader, process_place
from limnet.data.module import SampleDataModule
from limnet.errors import InputError
from limnet.simulation.volumes import paint, synthetic_labels

MIN_PIXELS = 12
_LATER_EPOCHS = 2**31  # validation draws from seeds that training never reaches


class SyntheticDataset(Dataset[Any]):
    """Painted label maps of some slices with one object each; sample `i` depends on `seed` and `i` alone.

    InputError for a size of the square slices below 32, or a length or number of slices below 1.
    """

    def __init__(self, length: int = 1000, size: int = 96, seed: int = 0, slices: int = 1) -> None:
        if size < 32:
            raise InputError(f"size is {size}; the networks need slices of at least 32 x 32 pixels")
        if length < 1 or slices < 1:
            raise InputError(f"length is {length} and slices is {slices}; both must be at least 1")
        self.length, self.size, self.seed, self.slices = length, size, seed, slices

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image uint8 (T, H, W), 0..255, and mask uint8 (T, H, W), 0 or 1; the object is on the first slice.

        The key is the number of the sample, or (epoch, number): every epoch has the same samples.
        """
        index = key[1] if isinstance(key, tuple) else key
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        while True:
            labels = synthetic_labels(rng, (self.slices, self.size, self.size))
            ids, counts = np.unique(labels[0], return_counts=True)
            ids = ids[(ids != 0) & (counts >= MIN_PIXELS) & (counts <= 0.7 * self.size**2)]
            if len(ids):
                break
        mask = labels == rng.choice(ids)
        image = paint(rng, labels)
        low, high = np.percentile(image, (0.5, 99.5))
        scaled = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1) * 255
        return torch.from_numpy(scaled.astype(np.uint8)), torch.from_numpy(mask.astype(np.uint8))


class SyntheticDataModule(SampleDataModule):
    """Batches of synthetic slices for training and validation.

    Slices are painted one by one, never cut out of volumes: so this is no `CaseDataModule`, but it has the same loader.

    Args:
        batch_size: samples per process and step.
        size: side of the slices in pixels.
        length: samples per epoch over all processes; validation has a tenth, at least one batch of every process.
        slices: slices per sample; 1 trains the interaction network, more train propagation.
        workers: processes that draw samples.
    """

    def __init__(
        self, batch_size: int = 8, size: int = 96, seed: int = 0, length: int = 1000, slices: int = 1, workers: int = 0
    ) -> None:
        training = SyntheticDataset(length, size, seed, slices)
        super().__init__(training, training, batch_size, batch_size, workers)

    def val_dataloader(self) -> ClipLoader:
        """Samples of other seeds."""
        one: SyntheticDataset = self.training
        samples = max(len(one) // 10, self.held_batch * process_place()[1])
        held = SyntheticDataset(samples, one.size, one.seed + _LATER_EPOCHS, one.slices)
        return ClipLoader(held, self.held_batch, self.workers, fixed=True)
