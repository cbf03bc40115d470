"""ClipPool: clips that other processes draw while the training runs; the newest of them wait on the training's device.

An accelerator trains on more samples a second than processors can draw. So every clip is used several times, augmented
anew each time, until a newer one takes its place.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from limnet.data.drawing import ClipDrawer
from limnet.data.loading import process_place
from limnet.errors import InputError

BLOCK = 32  # clips that a worker hands over at once
_WAITING = 16  # blocks that wait to be taken into the pool

Batch = tuple[Tensor, ...]


class DrawnBlocks(IterableDataset[Any]):
    """Endless blocks of clips from a drawer; every worker of every process has its own randomness.

    Args:
        drawer: of clips.
        seed: of all workers.
        block: clips in a block.
    """

    def __init__(self, drawer: ClipDrawer, seed: int = 0, block: int = BLOCK):
        self.drawer, self.seed, self.block = drawer, seed, block

    def __iter__(self) -> Iterator[Batch]:
        """Blocks of image, mask and start mask, each uint8 (block, T, S, S)."""
        worker = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, process_place()[0], 0 if worker is None else worker.id])
        while True:
            clips = [self.drawer.draw(rng) for _ in range(self.block)]
            yield tuple(torch.from_numpy(np.stack(parts).astype(np.uint8)) for parts in zip(*clips, strict=True))


class ClipPool:
    """Batches for a training, endless: random ones of the newest `capacity` clips.

    What a batch holds depends on how fast clips are drawn: such a training cannot be repeated exactly.

    Args:
        blocks: where clips come from.
        batch_size: clips in a batch.
        capacity: clips kept; each takes 3 T S S bytes.
        first: clips to wait for before the first batch.
        workers: processes that draw, at least 1.
        device: where the clips wait.
        seed: of the choice of clips.

    Raises:
        InputError: sizes below 1, or fewer places than a batch or the first clips need.
    """

    def __init__(
        self,
        blocks: DrawnBlocks,
        batch_size: int,
        capacity: int,
        first: int,
        workers: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        if min(batch_size, first, workers) < 1 or capacity < max(batch_size, first, blocks.block):
            raise InputError(
                f"batch_size is {batch_size}, first {first}, workers {workers}, capacity {capacity}; give at least 1, "
                f"and a capacity of at least a batch, the first clips and a block of {blocks.block}"
            )
        self.blocks, self.batch_size, self.capacity, self.first = blocks, batch_size, capacity, first
        self.workers, self.device, self.seed = workers, torch.device(device), seed
        self.drawn = 0  # clips taken into the pool so far
        self._kept: list[Tensor] = []

    def __iter__(self) -> Iterator[Batch]:
        cuda = self.device.type == "cuda"
        loader = DataLoader(self.blocks, None, num_workers=self.workers, pin_memory=cuda, prefetch_factor=2)
        waiting: queue.Queue[Batch | BaseException] = queue.Queue(_WAITING)
        ended = threading.Event()
        thread = threading.Thread(target=_collect, args=(loader, waiting, ended), daemon=True)
        thread.start()
        draws = torch.Generator(self.device).manual_seed(self.seed)
        try:
            while True:
                while self.drawn < self.first:
                    self._take(waiting.get())
                with contextlib.suppress(queue.Empty):
                    while True:
                        self._take(waiting.get_nowait())
                filled = min(self.drawn, self.capacity)
                index = torch.randint(filled, (self.batch_size,), generator=draws, device=self.device)
                yield tuple(part[index] for part in self._kept)
        finally:
            ended.set()
            thread.join()

    def _take(self, block: Batch | BaseException) -> None:
        """Put a block of clips in the places of the oldest ones."""
        if isinstance(block, BaseException):
            raise block
        if not self._kept:
            self._kept = [
                torch.zeros((self.capacity, *part.shape[1:]), dtype=part.dtype, device=self.device) for part in block
            ]
        start, count = self.drawn % self.capacity, len(block[0])
        fits = min(count, self.capacity - start)
        for kept, part in zip(self._kept, block, strict=True):
            kept[start : start + fits].copy_(part[:fits], non_blocking=True)
            kept[: count - fits].copy_(part[fits:], non_blocking=True)
        self.drawn += count


def _collect(loader: DataLoader[Any], waiting: queue.Queue[Batch | BaseException], ended: threading.Event) -> None:
    """Hand blocks over until the training has ended; a failure is handed over, too."""
    try:
        for block in loader:
            while not ended.is_set():
                with contextlib.suppress(queue.Full):
                    waiting.put(tuple(block), timeout=0.1)
                    break
            if ended.is_set():
                return
    except BaseException as error:
        waiting.put(error)
