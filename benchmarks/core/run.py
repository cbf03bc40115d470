"""The one loop: for every case, for every object, for every variant: measure, keep the row; in one process or many.

Started again, finished objects of the same configuration are taken from the record, failed ones are tried again. Where
data has changed in place, begin afresh (`--fresh`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.core.record import Record, Row
from benchmarks.core.rounds import Predictor, Target, columns, config_hash, play_object, predictor_config
from benchmarks.core.suite import Suite
from limnet.environment import command_line
from limnet.errors import InputError
from limnet.hub.model import locate

Measure = Callable[[Target], Row]
"""Gives the entries of a row for an object; a reason under "left_out" keeps it out of comparisons."""

Progress = Callable[[Row], None]


def teller() -> Progress:
    """Prints a line for every row: with what, where, qualities or error, and the seconds since the line before."""
    console, last = Console(stderr=True, soft_wrap=True, highlight=False), [time.perf_counter()]

    def tell(row: Row) -> None:
        values = " ".join(f"{v:.3f}" for v in row.get("iou") or row.get("dice") or ())
        took, last[0] = time.perf_counter() - last[0], time.perf_counter()
        where = f"{row['variant']}, {row['case']} {row['object']}".strip()
        text = f"{where}: {row.get('error') or row.get('left_out') or values} ({took:.1f} s)"
        console.print(text, style="red" if "error" in row else None, markup=False)

    return tell


def run(
    record: Record,
    suite: Suite,
    variants: Mapping[str, Measure],
    progress: Progress,
    indices: Iterable[int] | None = None,
) -> None:
    """Measure every object in every variant, as far as the record does not hold it yet; errors are rows, too.

    `indices` are those of the cases, all by default; `progress` is told of every new row.
    """
    for case in suite.cases if indices is None else [suite.cases[i] for i in indices]:
        choice = suite.choice_of(case.name)
        finished = f"{case.name} {json.dumps(dataclasses.asdict(choice), sort_keys=True)}"
        if finished in record.cases and all(
            record.has(v, case.name, n) for v in variants for n in record.cases[finished]
        ):
            continue
        names = []
        try:
            volume = case.read_image()
            for found in choice.objects(case, volume):
                names.append(found.object)
                measure_all(record, suite.target(found), variants, progress)
        except Exception as error:  # a damaged file, or labels on another grid: the run goes on with the next case
            for variant in variants:
                progress(record.add(_failed(variant, case.name, "", error)))
            continue
        if all(record.has(v, case.name, n) for v in variants for n in names):
            record.add({"case": finished, "objects": names})


def measure_all(record: Record, target: Target, variants: Mapping[str, Measure], progress: Progress) -> None:
    """Measure one object in the variants that the record lacks."""
    for variant, measure in variants.items():
        if not record.has(variant, target.case, target.object):
            progress(record.add(_measured(target, variant, measure)))


def _measured(target: Target, variant: str, measure: Measure) -> Row:
    try:
        row = measure(target)
    except Exception as error:  # whatever a method raises is its result
        return _failed(variant, target.case, target.object, error)
    head = {"variant": variant, "case": target.case, "object": target.object, "group": target.group}
    return {
        **head,
        "axis": target.axis,
        "voxels": int(target.truth.sum()),
        **row,
        "threads": torch.get_num_threads(),
    }


def _failed(variant: str, case: str, object: str, error: Exception) -> Row:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return {"variant": variant, "case": case, "object": object, "error": text[:500]}


def run_suite(
    suite: Suite,
    predictor: Predictor,
    out: Path,
    *,
    trainer: Mapping[str, Any] | None = None,
    views: bool = True,
    fresh: bool = False,
    command: str | None = None,
    progress: Progress = lambda row: None,
) -> Record | None:
    """Run a benchmark with a method and write its result file `out` (.json); a .csv of the rounds comes beside it.

    Args:
        suite: what to run.
        predictor: with which method.
        out: result file.
        trainer: arguments of `lightning.Trainer` that say where to run (see `limnet.training.options.trainer_kwargs`);
            None or one process runs here without Lightning.
        views: keep a small view of every object in a folder beside `out`, for the gallery of a report.
        fresh: forget finished objects of earlier runs.
        command: that repeats the run; this process's by default.
        progress: called with every new row.

    Returns:
        The results; None in a process that is not the first.

    Raises:
        InputError: no cases, two cases of one name, or a predictor that cannot be prompted as the suite does.
    """
    if not suite.cases:
        raise InputError(f"suite {suite.name} has no cases here; check the split and the data folder")
    double = [name for name, n in Counter(case.name for case in suite.cases).items() if n > 1]
    if double:
        raise InputError(f"suite {suite.name} has several cases named {double[0]!r}; names must be unique")
    suite, config = suite.played_by(predictor), predictor_config(predictor)
    folder = str(Path(suite.root).absolute()) if suite.root else ""
    record = Record(
        out,
        {"predictor": config, "config": suite.config(), "data": config_hash({"folder": folder})},
        suite.about(),
        command or command_line(),
    )
    record.resume(fresh)

    def measure(target: Target) -> Row:
        turns = play_object(predictor, target, suite.rounds)
        if views:
            from benchmarks.core.report import view_of, view_path, write_view

            view = view_of(target.volume, target.axis, target.truth, turns[-1].mask)
            write_view(view_path(out, record.key, target.case, target.object), view)
        return columns(turns)

    variants = {predictor.name: measure}
    if trainer and (trainer.get("strategy", "auto") != "auto" or trainer.get("devices", 1) not in (1, [0], "1")):
        from benchmarks.core.distributed import run_distributed

        processes = run_distributed(record, suite, variants, trainer, progress)
    else:
        processes = 1
        with record.open():
            run(record, suite, variants, progress)
    if not processes:
        return None
    record.about["processes"] = processes
    cases = {case.name for case in suite.cases}
    record.keep(lambda row: row["case"] in cases)
    record.rows.sort(key=lambda row: (row["case"], row["object"]))  # the same for any number of processes
    record.write(record.summary())
    return record


def check_ready(suite: Suite, predictors: Sequence[Predictor]) -> None:
    """Raise what would fail in every case, before the first one: no package, weights, folder or model."""
    if getattr(suite.rounds, "nsd_mm", None) is not None and not find_spec("monai"):
        raise InputError(
            f"benchmark {suite.name} measures surface Dice (NSD), which needs MONAI; run: pip install 'limnet[train]'"
        )
    for predictor in predictors:
        if isinstance(model := getattr(predictor, "model", None), str):
            locate(model)
        if callable(check := getattr(predictor, "check", None)):
            check()
