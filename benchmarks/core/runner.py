"""Running a suite: in this process, or dealt out over many by Lightning; either way it goes on where it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.journal import Journal, read_journals, remove_journals
from benchmarks.core.protocol import Predictor
from benchmarks.core.results import BenchResults, finished_objects, from_records
from benchmarks.core.suite import Suite
from benchmarks.core.work import Record, Run
from limnet.environment import command_line, environment
from limnet.errors import InputError

Progress = Callable[[Record], None]


def run_suite(
    suite: Suite,
    predictor: Predictor,
    out: Path,
    *,
    trainer: Mapping[str, Any] | None = None,
    views: bool = True,
    progress: Progress | None = None,
) -> BenchResults | None:
    """Run a suite and write its result file.

    Every finished object is kept in a journal beside `out` at once. Started again with the same configuration on the
    same data, finished objects are taken from there; failed ones are tried again. A folder that was moved is the same
    data, other images or labels under the same names are not.

    Args:
        suite: what to run.
        predictor: with which method.
        out: result file, .json; a .csv of the rounds comes beside it.
        trainer: arguments of `lightning.Trainer` that say where to run (see `limnet.training.launch.trainer_kwargs`);
            None or one process runs here without Lightning.
        views: keep a small view of every object in a folder beside `out`, for the gallery of a report.
        progress: called with every new record.

    Returns:
        The results; None in a process that is not the first.

    Raises:
        InputError: no cases, two cases of one name, or a predictor that cannot be prompted as the suite does.
        SaveError: `out` cannot be written.
    """
    if not suite.cases:
        raise InputError(f"suite {suite.name} has no cases here; check the split and the data folder")
    double = [name for name, n in Counter(case.name for case in suite.cases).items() if n > 1]
    if double:
        raise InputError(f"suite {suite.name} has several cases named {double[0]!r}; names must be unique")
    if out.suffix != ".json":
        raise InputError(f"the result file is {out.name!r}; its name must end in .json")
    run = Run(suite.played_by(predictor), predictor, out if views else None)
    if trainer is not None and _several(trainer):
        from benchmarks.core.distributed import run_distributed

        return run_distributed(run, out, trainer, progress)
    earlier, journal = by_case(read_journals(out, run.key)), Journal(out)
    records: list[Record] = []

    def keep(record: Record) -> None:
        journal.append(record)
        records.append(record)
        if progress is not None:
            progress(record)

    try:
        for index, case in enumerate(suite.cases):
            records += run.run_case(index, earlier.get(case.name, []), keep)
    finally:
        journal.close()
    results = from_records(header(run, 1, records), records)
    results.write(out)
    return results


def by_case(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Case -> its records, in their order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["case"], []).append(record)
    return found


def header(run: Run, processes: int, records: Iterable[Record]) -> dict[str, Any]:
    """Head of a result file.

    Args:
        run: suite and predictor.
        processes: number of processes.
        records: of all cases; "limnet", "commit" and "threads" are those that finished the objects, a list where
            several did.
    """
    return {
        "suite": run.suite.name,
        "title": run.suite.title,
        "published": run.suite.published,
        "note": run.suite.note,
        "scores": run.suite.scores,
        "data": run.suite.root,
        "cases": len(run.suite.cases),
        "key": run.key,
        "predictor": run.config["predictor"],
        "config": {k: v for k, v in run.config.items() if k != "predictor"},
        "command": command_line(),
        "processes": processes,
        **environment(),
        **_origins(run, list(finished_objects(records))),
    }


def _origins(run: Run, objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    made = objects or [run.origin]
    found = {n: list(dict.fromkeys(r[n] for r in made if n in r)) for n in (*run.origin, "threads")}
    return {name: values[0] if len(values) == 1 else values for name, values in found.items() if values}


def start_afresh(out: Path) -> None:
    """Forget finished objects of a result file."""
    remove_journals(out)


def _several(trainer: Mapping[str, Any]) -> bool:
    return trainer.get("strategy", "auto") != "auto" or trainer.get("devices", 1) not in (1, [0], "1")
