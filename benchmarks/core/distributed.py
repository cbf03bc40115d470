"""A suite on several processes or machines: cases dealt out by Lightning's Trainer.test, rows gathered exactly."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from benchmarks.core.journal import Journal, read_journals
from benchmarks.core.results import BenchResults, finished_objects, from_records, table_rows
from benchmarks.core.runner import by_case, header
from benchmarks.core.work import Record, Run
from limnet.metrics.case_table import CaseTable
from limnet.training.launch import leave_group_at_exit

NOTHING = -1
"""Index of no case: what a process gets that has none, so that it still takes part in the gathering."""

LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for the others at the end; torch's own limit is half an hour."""


class CaseIndices(LightningDataModule):
    """Indices of cases, each dealt to exactly one process: rank, rank + processes, ... without padding.

    Lightning's own sampler repeats cases until all processes have equally many; here `Trainer.test` needs no equal
    numbers, since processes meet only at the end.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def test_dataloader(self) -> DataLoader[Any]:
        """Indices of this process, one a batch."""
        trainer = self.trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        mine = list(range(rank, self.number, world)) or [NOTHING]
        return DataLoader(mine, batch_size=None)  # type: ignore[arg-type]


class BenchModule(LightningModule):
    """Runs the cases it is given and gathers what came out at the end.

    Args:
        run: suite and predictor.
        out: result file.
        progress: called with every new record of this process.
    """

    def __init__(self, run: Run, out: Path, progress: Callable[[Record], None] | None = None) -> None:
        super().__init__()
        self.work, self.out, self.progress = run, out, progress
        self.table = CaseTable()
        self.records: list[Record] = []
        self.results: BenchResults | None = None

    def on_test_start(self) -> None:
        """Find out what earlier runs finished; begin the journal of this process."""
        self.earlier = by_case(read_journals(self.out, self.work.key))
        self.trainer.strategy.barrier("journals read")  # before anyone writes on
        self.journal = Journal(self.out, self.global_rank)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Run one case."""
        index = int(batch)
        if index != NOTHING:
            name = self.work.suite.cases[index].name
            self.records += self.work.run_case(index, self.earlier.get(name, []), self._keep)

    def on_test_epoch_end(self) -> None:
        """Gather all rows; the first process writes the result file."""
        self.journal.close()
        self.table.reset()
        for record in finished_objects(self.records):
            for row in table_rows(record):
                case, thing, group, number = (row.pop(k) for k in ("case", "object", "group", "round"))
                self.table.update(case, thing, group, number, row)
        table = self.table.compute()
        gathered = _gather(self.records)
        if self.global_rank == 0:
            self.results = from_records(header(self.work, self.trainer.world_size, gathered), gathered, table)
            self.results.write(self.out)

    def _keep(self, record: Record) -> None:
        self.journal.append(record)
        self.records.append(record)
        if self.progress is not None:
            self.progress(record)


def run_distributed(
    run: Run, out: Path, trainer: Mapping[str, Any], progress: Callable[[Record], None] | None = None
) -> BenchResults | None:
    """Run a suite by `Trainer.test`; see `benchmarks.core.runner.run_suite`."""
    module = BenchModule(run, out, progress)
    leave_group_at_exit()
    with _quiet():
        driver = Trainer(
            **{**trainer, "strategy": patient(trainer.get("strategy", "auto"))},
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            inference_mode=False,  # a method may need gradients
        )
        driver.test(module, CaseIndices(len(run.suite.cases)), verbose=False)
    return module.results


def patient(strategy: Any) -> Any:
    """The strategy "ddp" with a long wait: a process with large cases may come hours after one with small cases.

    Any other strategy is left as it is. So is the choice of the backend (NCCL or gloo).
    """
    return DDPStrategy(timeout=LONGEST_WAIT) if strategy == "ddp" else strategy


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks on devices and services; its warnings stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _gather(records: list[Record]) -> list[Record]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return records
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, records)
    return [record for part in found for record in part]
