"""What the speed suite measures, and the run itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from benchmarks.core.studies.record import Record
from benchmarks.timing.holding import HoldJob
from benchmarks.timing.laps import LapJob, measured
from benchmarks.timing.methods import METHODS
from benchmarks.timing.worker import in_own_process

Row = dict[str, Any]
Runner = Callable[[LapJob | HoldJob], Iterable[Row]]


@dataclass(frozen=True)
class Plan:
    """A selection of measurements.

    Attributes:
        sizes: sides of a slice in pixels.
        slices: depth of the timed volume.
        heavy_slices: depth for heavy methods.
        threads: numbers of threads.
        precisions: of "fp32" and "bf16".
        repeats: laps.
        methods: keys of `METHODS`.
        memory: method -> depths at which its memory is looked at.
        memory_repeats: fresh processes per depth.
        model: zoo name, model folder or Hub id behind "tiny".
        device: where to compute.
        minutes: for all; laps that would not be over by then are left out, down to two per size. 0 sets no limit.
    """

    sizes: tuple[int, ...] = (480,)
    slices: int = 24
    heavy_slices: int = 7
    threads: tuple[int, ...] = (1, 2)
    precisions: tuple[str, ...] = ("fp32", "bf16")
    repeats: int = 5
    methods: tuple[str, ...] = tuple(METHODS)
    memory: tuple[tuple[str, tuple[int, ...]], ...] = (("tiny", (50, 1000)),)
    memory_repeats: int = 1
    model: str = "limnet-tiny"
    device: str = "cpu"
    minutes: float = 6.0

    def lap_jobs(self, rows: list[Row]) -> Iterator[LapJob]:
        """One job per size; what rows hold already is marked as done."""
        for size in self.sizes:
            job = LapJob(
                size,
                self.slices,
                self.heavy_slices,
                self.threads,
                self.precisions,
                self.methods,
                self.repeats,
                self.model,
                self.device,
            )
            yield replace(job, done=measured(rows, job))

    def memory_jobs(self) -> Iterator[HoldJob]:
        """One job per depth, repeated in turn."""
        for size in self.sizes:
            for method, depths in self.memory:
                if method in self.methods:
                    for repeat in range(self.memory_repeats):
                        for slices in depths:
                            yield HoldJob(
                                method,
                                size,
                                slices,
                                repeat,
                                threads=max(self.threads),
                                model=self.model,
                                device=self.device,
                            )


QUICK = Plan((128,), 5, 3, (1,), ("fp32",), 2, memory=(("tiny", (8, 24)),), minutes=1)
STANDARD = Plan()
FULL = Plan((480, 512), memory=(("tiny", (50, 200, 1000)), ("base", (10, 30))), minutes=12)


def carry_out(
    plan: Plan, record: Record, run: Runner = in_own_process, clock: Callable[[], float] = time.monotonic
) -> None:
    """Measure what a record does not hold yet; every row is kept at once.

    Args:
        plan: what to measure.
        record: where rows go.
        run: gives the rows of a job.
        clock: in seconds, for the plan's limit of time.
    """
    console = Console(stderr=True, highlight=False)
    start = clock()
    record.keep(lambda row: "left_out" not in row)  # its package may be there now
    for job in plan.memory_jobs():
        if record.has(job.key()):
            continue
        for row in run(job):
            record.add(row)
            console.print(f"{job.size} pixels, {job.method}: memory of {job.slices} slices", markup=False)
    for number, lap_job in enumerate(plan.lap_jobs(record.rows)):
        if not lap_job.turns():
            continue
        left = 60 * plan.minutes - (clock() - start)
        share = max(left / (len(plan.sizes) - number), 1.0) if plan.minutes else 0.0
        for row in run(replace(lap_job, seconds=share)):
            record.add(row)
            what = row.get("left_out") or f"lap {row['lap'] + 1}, threads: {row['threads']}, {row['precision']}"
            console.print(f"{row['size']} pixels, {row['method']}: {what}", markup=False)
