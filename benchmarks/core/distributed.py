"""The loop on several processes or machines: cases dealt out by Lightning's Trainer.test, rows gathered exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from benchmarks.core.record import Record
from benchmarks.core.run import Measure, Progress, run
from benchmarks.core.suite import Suite
from limnet.training.launch import leave_group_at_exit

LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for the others at the end; torch's own limit is half an hour."""


class BenchModule(LightningModule):
    """Runs the cases of its process (rank, rank + processes, ...) in one test step, and gathers what came out."""

    def __init__(self, record: Record, suite: Suite, variants: Mapping[str, Measure], progress: Progress) -> None:
        super().__init__()
        self.record, self.suite, self.variants, self.progress = record, suite, variants, progress

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Run the cases of this process; all have read what earlier runs finished."""
        self.trainer.strategy.barrier("records read")  # before anyone writes on
        mine = range(self.global_rank, len(self.suite.cases), self.trainer.world_size)
        with self.record.open(self.global_rank):
            run(self.record, self.suite, self.variants, self.progress, mine)

    def on_test_epoch_end(self) -> None:
        """Give the first process the rows of all."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            found: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(found, self.record.added)
            for rows in found[1:] if self.global_rank == 0 else ():
                self.record.take(rows, errors=True)


def run_distributed(
    record: Record, suite: Suite, variants: Mapping[str, Measure], trainer: Mapping[str, Any], progress: Progress
) -> int:
    """Run by `Trainer.test`; the number of processes in the first one, whose record has all rows, and 0 in others."""
    module = BenchModule(record, suite, variants, progress)
    leave_group_at_exit()
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)  # without its remarks on devices and services
    try:
        driver = Trainer(
            **{**trainer, "strategy": patient(trainer.get("strategy", "auto"))},
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            inference_mode=False,  # a method may need gradients
        )
        driver.test(module, DataLoader([0]), verbose=False)  # type: ignore[arg-type]
    finally:
        logger.setLevel(level)
    return driver.world_size if driver.global_rank == 0 else 0


def patient(strategy: Any) -> Any:
    """The strategy "ddp" with a long wait, for large cases may come hours after small ones; any other as it is."""
    return DDPStrategy(timeout=LONGEST_WAIT) if strategy == "ddp" else strategy
