"""The loader of all samples: every process takes its share, and a training can go on where it was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limnet.errors import InputError

FIXED_EPOCH = 2**31  # training never gets there


class ClipLoader:
    """Batches of samples (epoch, number); which process or worker draws a sample does not change it.

    Args:
        dataset: items are found by (epoch, number) and depend on these alone; its length is an epoch of all processes.
        batch_size: samples in a batch and process.
        workers: processes that draw.
        fixed: for validation: the same samples every time, the last batch may be smaller. Otherwise every epoch has
            its own, incomplete batches are left out, and `state_dict` tells which batch comes next.

    Raises InputError for sizes below 1, fewer samples than one batch takes, or, for validation, than there are
    processes; in every process, so that none waits for another.
    """

    def __init__(self, dataset: Any, batch_size: int, workers: int = 0, fixed: bool = False) -> None:
        samples = len(dataset)
        if batch_size < 1 or samples < 1 or workers < 0:
            raise InputError(
                f"batch_size is {batch_size}, samples {samples}, workers {workers}; at least 1, 1 and 0 are needed"
            )
        self.dataset, self.batch_size, self.samples = dataset, batch_size, samples
        self.workers, self.fixed = workers, fixed
        self.epoch, self.batch = 0, 0  # the batch that comes next
        world = process_place()[1]
        if fixed and samples < world:
            raise InputError(
                f"{samples} validation sample(s) cannot be shared among {world} processes, each needs one; "
                "take more samples or fewer processes"
            )
        if not len(self):
            raise InputError(
                f"{samples} samples an epoch are fewer than one batch of {batch_size} on {world} process(es); "
                "take more samples or a smaller batch"
            )

    def __len__(self) -> int:
        """Batches in an epoch, for each process."""
        rank, world = process_place()
        if self.fixed:
            return -(-len(range(rank, self.samples, world)) // self.batch_size)
        return self.samples // world // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        rank, world = process_place()
        number, first, count = FIXED_EPOCH if self.fixed else self.epoch, 0 if self.fixed else self.batch, len(self)
        mine, size = range(rank, self.samples, world), self.batch_size
        batches = ([(number, index) for index in mine[b * size : (b + 1) * size]] for b in range(first, count))
        loader: DataLoader[Any] = DataLoader(self.dataset, batch_sampler=batches, num_workers=self.workers)
        for batch, drawn in enumerate(loader, first):
            if not self.fixed:
                last = batch + 1 == count
                self.epoch, self.batch = self.epoch + last, 0 if last else batch + 1
            yield tuple(drawn)

    def state_dict(self) -> dict[str, int]:
        """Which batch comes next."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the batch a `state_dict` named."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])


class ShuffledDataset(Dataset[Any], ABC):
    """Samples that lie in a fixed order, found by (epoch, number): each epoch has its own order, validation that one.

    A subclass has a `seed` and a length, and reads a sample.
    """

    seed: int
    _order: tuple[int, np.ndarray] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Samples."""

    @abstractmethod
    def read(self, index: int) -> tuple[Tensor, ...]:
        """The sample at a place."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        """Sample `number` of an epoch."""
        epoch, number = key
        if not 0 <= number < len(self):
            raise IndexError(number)
        if epoch == FIXED_EPOCH:
            return self.read(number)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self))
        return self.read(int(self._order[1][number]))


def process_place() -> tuple[int, int]:
    """Number of this process and number of processes in a distributed training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
