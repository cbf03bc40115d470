"""Running a suite: for every case, for every object: play, append a JSON line; then write the result file.

Every process appends to a file of its own beside the result file (`NAME.part0.jsonl`, `NAME.part1.jsonl`, ...), so that
nothing is lost or mixed on network file systems. Started again, finished objects of the same configuration and data
folder are taken from there, failed ones are tried again. Where data has changed in place, begin afresh (`--fresh`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.core.method import Predictor, config_hash, predictor_config
from benchmarks.core.results import BenchResults, finished_objects, from_records
from benchmarks.core.rounds import Mask, run_object
from benchmarks.core.suite import Suite
from benchmarks.core.views import make_view, view_path, write_view
from limnet.data.objects import BenchObject
from limnet.environment import command_line, environment, origin
from limnet.errors import InputError, SaveError
from limnet.hub.locate import locate
from limnet.image.volume import Volume

Record = dict[str, Any]
Progress = Callable[[Record], None]


class Journal:
    """JSON lines of one process: "object" (finished), "case" (with the names of all its objects) or "error".

    Args:
        out: the result file it belongs to, such as results/open.json.
        rank: number of this process.

    Raises:
        SaveError: the folder cannot be written.
    """

    def __init__(self, out: Path, rank: int = 0) -> None:
        path = out.with_name(f"{out.stem}.part{rank}.jsonl")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab+")  # noqa: SIM115
        except OSError as error:
            raise SaveError(f"could not write {path} ({error}); choose another --out") from error
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")  # a crash cut the last line short

    def append(self, record: Record) -> None:
        """Write one record; it is on disk when this returns."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def journals(out: Path) -> list[Path]:
    """The journals of a result file."""
    return sorted(path for path in out.parent.glob("*.jsonl") if path.stem.rstrip("0123456789") == f"{out.stem}.part")


def read_journals(out: Path, key: str) -> list[Record]:
    """All records of earlier runs with this key, process by process; lines that a crash cut short are skipped."""
    found = []
    for path in journals(out):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("key") == key:
                found.append(record)
    return found


@dataclass
class Run:
    """A suite with the predictor that runs it. Can be sent to another process.

    Attributes:
        suite: the suite.
        predictor: the method.
        views: result file beside which a small view of every object is kept; None keeps none.
        origin: version and commit of limnet, as they were when the run began.
    """

    suite: Suite
    predictor: Predictor
    views: Path | None = None
    origin: dict[str, Any] = field(default_factory=origin)

    def __post_init__(self) -> None:
        self.config = {"predictor": predictor_config(self.predictor), **self.suite.config()}
        folder = str(Path(self.suite.root).absolute()) if self.suite.root else None
        self.key = config_hash({**self.config, "data": folder})

    def run_case(self, index: int, earlier: Iterable[Record], keep: Progress) -> None:
        """Segment all objects of a case that are not finished; nothing is read where all are.

        Args:
            index: of the case.
            earlier: records of earlier runs with the same key.
            keep: gets every new record. One whose "type" is "error" tells what failed; nothing is raised.
        """
        case = self.suite.cases[index]
        mine = [record for record in earlier if record["case"] == case.name]
        done = {record["object"] for record in mine if record["type"] == "object"}
        if any(done.issuperset(record["objects"]) for record in mine if record["type"] == "case"):
            return
        failed, names = False, []
        try:
            volume, labels = case.read_image(), case.read_labels()
            read = replace(case, read_labels=lambda: labels)
            for thing in self.suite.choice_of(case.name).objects(read, volume):
                names.append(thing.object)
                if thing.object not in done:
                    shown = own_layers(volume, thing) if self.suite.layered else (volume, thing)
                    failed |= not self._run_object(*shown, keep)
        except Exception as error:  # a damaged file, or labels on another grid: the run goes on with the next case
            keep(self._error(case.name, "", error))
            return
        if not failed:
            keep({**self._record("case", case.name, ""), "objects": names})

    def _run_object(self, volume: Volume, thing: BenchObject, keep: Progress) -> bool:
        names = {"case": thing.case, "object": thing.object}

        def look(mask: Mask) -> None:
            if self.views is not None:
                view = make_view(volume, thing.axis, thing.mask, mask)
                write_view(view_path(self.views, self.key, thing.case, thing.object), view)

        try:
            rows = run_object(
                self.predictor, volume, thing.mask, thing.axis, self.suite.rounds, **names, on_end=look
            )  # fmt: skip
        except Exception as error:  # whatever a method raises is its result
            keep(self._error(thing.case, thing.object, error))
            return False
        keep(
            {
                **self._record("object", thing.case, thing.object),
                "group": thing.group if self.suite.group is None else self.suite.group(thing.case, thing.group),
                "axis": thing.axis,
                "voxels": int(thing.mask.sum()),
                "rounds": [row.round for row in rows],
                "values": [row.values() for row in rows],
                "clicks": [None if row.zyx is None else [*row.zyx, int(bool(row.positive))] for row in rows],
                "seconds": [round(row.seconds, 4) for row in rows],
                "threads": torch.get_num_threads(),
            }
        )
        return True

    def _error(self, case: str, object: str, error: Exception) -> Record:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return {**self._record("error", case, object), "error": text[:500]}

    def _record(self, kind: str, case: str, object: str) -> Record:
        return {"type": kind, "key": self.key, "case": case, "object": object, **self.origin}

    def header(self, processes: int, records: Iterable[Record]) -> dict[str, Any]:
        """Head of a result file; versions, commits and threads are lists where several finished the objects."""
        made = finished_objects(records) or [self.origin]
        several = {n: list(dict.fromkeys(r[n] for r in made if n in r)) for n in (*self.origin, "threads")}
        return {
            "suite": self.suite.name,
            "title": self.suite.title,
            "published": self.suite.published,
            "note": self.suite.note,
            "scores": self.suite.scores,
            "data": self.suite.root,
            "cases": len(self.suite.cases),
            "key": self.key,
            "predictor": self.config["predictor"],
            "config": {k: v for k, v in self.config.items() if k != "predictor"},
            "command": command_line(),
            "processes": processes,
            **environment(),
            **{name: values[0] if len(values) == 1 else values for name, values in several.items() if values},
        }


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
    if trainer and (trainer.get("strategy", "auto") != "auto" or trainer.get("devices", 1) not in (1, [0], "1")):
        from benchmarks.core.distributed import run_distributed

        return run_distributed(run, out, trainer, progress)
    records, journal = read_journals(out, run.key), Journal(out)
    new: list[Record] = []

    def keep(record: Record) -> None:
        journal.append(record)
        new.append(record)
        if progress is not None:
            progress(record)

    try:
        for index in range(len(suite.cases)):
            run.run_case(index, records, keep)
    finally:
        journal.close()
    return write_results(run, out, 1, records, new)


def write_results(run: Run, out: Path, processes: int, earlier: list[Record], new: list[Record]) -> BenchResults:
    """Results of the cases of a suite out of all records; of errors the new ones count."""
    cases = {case.name for case in run.suite.cases}
    taken = [r for r in (*(r for r in earlier if r["type"] != "error"), *new) if r["case"] in cases]
    results = from_records(run.header(processes, taken), taken)
    results.write(out)
    return results


def check_ready(suite: Suite, predictors: Iterable[Predictor]) -> None:
    """Raise what would fail in every case, before the first one; nothing is loaded.

    Raises:
        InputError: a package that is not installed.
        MissingFileError: weights or a folder that are not there.
        ModelNotFoundError: no such model.
    """
    if getattr(suite.rounds, "nsd_mm", None) is not None and not find_spec("monai"):
        raise InputError(
            f"benchmark {suite.name} measures surface Dice (NSD), which needs MONAI; run: pip install 'limnet[train]'"
        )
    for predictor in predictors:
        if isinstance(model := getattr(predictor, "model", None), str):
            locate(model)
        if callable(check := getattr(predictor, "check", None)):
            check()


def own_layers(volume: Volume, thing: BenchObject) -> tuple[Volume, BenchObject]:
    """Volume and object cut to the slices that show the object."""
    there = np.flatnonzero(thing.mask.any((1, 2)))
    cut = slice(int(there[0]), int(there[-1]) + 1)
    shown = Volume.from_array(volume.array[cut], volume.spacing, modality=volume.modality)
    return shown, thing._replace(mask=thing.mask[cut])
