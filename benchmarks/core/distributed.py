"""A suite on several processes or machines: cases dealt out by Lightning's Trainer.test, records gathered exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from benchmarks.core.results import BenchResults
from benchmarks.core.run import Journal, Progress, Record, Run, read_journals, write_results
from limnet.training.launch import leave_group_at_exit

LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for the others at the end; torch's own limit is half an hour."""


class BenchModule(LightningModule):
    """Runs the cases of its process (rank, rank + processes, ...) in one test step, and gathers what came out.

    Args:
        run: suite and predictor.
        out: result file.
        progress: called with every new record of this process.
    """

    def __init__(self, run: Run, out: Path, progress: Progress | None = None) -> None:
        super().__init__()
        self.work, self.out, self.progress = run, out, progress
        self.records: list[Record] = []
        self.results: BenchResults | None = None

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Read what earlier runs finished, then run the cases of this process."""
        self.earlier = read_journals(self.out, self.work.key)
        self.trainer.strategy.barrier("journals read")  # before anyone writes on
        journal = Journal(self.out, self.global_rank)

        def keep(record: Record) -> None:
            journal.append(record)
            self.records.append(record)
            if self.progress is not None:
                self.progress(record)

        try:
            for index in range(self.global_rank, len(self.work.suite.cases), self.trainer.world_size):
                self.work.run_case(index, self.earlier, keep)
        finally:
            journal.close()

    def on_test_epoch_end(self) -> None:
        """Gather the records of all processes; the first one writes the result file."""
        found: list[Any] = [self.records]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            found = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(found, self.records)
        if self.global_rank == 0:
            new = [record for part in found for record in part]
            self.results = write_results(self.work, self.out, self.trainer.world_size, self.earlier, new)


def run_distributed(
    run: Run, out: Path, trainer: Mapping[str, Any], progress: Progress | None = None
) -> BenchResults | None:
    """Run a suite by `Trainer.test`; see `benchmarks.core.run.run_suite`."""
    module = BenchModule(run, out, progress)
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
    return module.results


def patient(strategy: Any) -> Any:
    """The strategy "ddp" with a long wait: a process with large cases may come hours after one with small cases.

    Any other strategy is left as it is. So is the choice of the backend (NCCL or gloo).
    """
    return DDPStrategy(timeout=LONGEST_WAIT) if strategy == "ddp" else strategy
