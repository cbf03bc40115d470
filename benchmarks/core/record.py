"""The record of a measurement: a row for each variant and object, kept as soon as it is there, and what they come to.

A row names variant (a method or setting), case, object, group, axis and voxels; lists over the rounds follow (rounds,
dice, compliance and others, clicks as [z, y, x, 1 or 0], seconds), then what an analysis adds, and limnet, commit and
threads it was measured with. Rows with "error" tell what failed, with object "" where a whole case did.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core.rounds import METRICS, config_hash
from limnet.environment import environment, origin
from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError, SaveError
from limnet.image.io.atomic import atomic_write
from limnet.metrics.table import Table

FORMAT, VERSION = "limnet-bench", 2
Row = dict[str, Any]


class Record:
    """Rows of one measurement in `path`; while it goes on, new ones are in `STEM.partN.jsonl`, a file for each process.

    Args:
        path: JSON file; beside it `write` puts a CSV of the rounds.
        fixed: what decides the numbers (JSON types). Rows of another `fixed` at `path` are kept under another name.
        about: what a reader should know besides: suite, title, note, published, scores ...
        command: that repeats the measurement.

    Attributes:
        key: of `fixed`.
        rows: finished ones, in the order they came.
        errors: of this run.
        added: rows of all kinds that this process added.
        cases: the objects of finished cases, by name and choice of objects.

    Raises:
        InputError: a path that does not end in .json.
    """

    def __init__(
        self, path: Path, fixed: Mapping[str, Any], about: Mapping[str, Any] | None = None, command: str = ""
    ) -> None:
        if path.suffix != ".json":
            raise InputError(f"the result file is {path.name!r}; its name must end in .json")
        self.path, self.command = Path(path), command
        self.fixed: dict[str, Any] = json.loads(json.dumps(dict(fixed)))
        self.about = dict(about or {})
        self.key = config_hash(self.fixed)
        self.environment = environment()
        self.rows: list[Row] = []
        self.errors: list[Row] = []
        self.cases: dict[str, list[str]] = {}
        self.label = ""  # instead of the method's own name, where two have one
        self.added: list[Row] = []
        self._file: Any = None
        self._done: set[tuple[str, str, str]] = set()
        self._table: Table | None = None
        self._origin = origin()  # as it was when the run began

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a result file; raises MissingFileError or FileFormatError where that cannot be."""
        advice = "give the JSON files written by limnet bench"
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MissingFileError(f"{path} does not exist; {advice}") from error
        except (ValueError, OSError) as error:
            raise FileFormatError(f"{path} cannot be read ({error}); {advice}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise FileFormatError(f"{path} is no result of limnet bench; {advice}")
        if found.get("format_version") != VERSION:
            version = found.get("format_version")
            raise FileFormatError(f"{path} has format version {version}; this limnet reads {VERSION}")
        try:
            record = cls(Path(path), found["fixed"], found["about"], found["command"])
            record.key, record.environment = found["key"], found["environment"]
            record.errors, record.cases = found["errors"], found["cases"]
            record.take(found["rows"])
            _ = record.table if "predictor" in record.fixed else None
        except (KeyError, TypeError, AttributeError, LimnetError) as error:
            raise FileFormatError(f"{path} is damaged ({error}); run the benchmark again") from error
        return record

    @property
    def plot(self) -> Path:
        """The PNG file beside it."""
        return self.path.with_suffix(".png")

    @property
    def parts(self) -> list[Path]:
        """The files of rows that are not in `path` yet."""
        stem = f"{self.path.stem}.part"
        return sorted(p for p in self.path.parent.glob("*.jsonl") if p.stem.rstrip("0123456789") == stem)

    def resume(self, fresh: bool = False) -> None:
        """Take over what earlier runs finished with the same `fixed`; `fresh` forgets it."""
        kept = [self.path, *sorted(self.path.parent.glob(f"{self.path.stem}.{'[0-9a-f]' * 8}.json"))]
        found = [Record.read(path) for path in kept if path.exists()]
        if fresh:
            for path in self.parts if int(os.environ.get("LOCAL_RANK", "0")) == 0 else ():
                path.unlink(missing_ok=True)
            return
        journal = [row for path in self.parts for row, other in _journal(path, self.key) if not other]
        newer = {_name(row) for row in journal if "objects" not in row}
        for record in found:
            if record.key == self.key:
                self.cases |= record.cases
                self.take(row for row in record.rows if _name(row) not in newer)
        self.take(journal)

    @contextmanager
    def open(self, rank: int = 0) -> Iterator[None]:
        """Keep rows meanwhile, in the file of this process; raises SaveError where that cannot be written."""
        path = self.path.with_name(f"{self.path.stem}.part{rank}.jsonl")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab+")  # noqa: SIM115
        except OSError as error:
            raise SaveError(f"could not write {path} ({error}); choose another --out") from error
        with self._file as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # a crash cut the last line short
            yield

    def has(self, variant: str, case: str, object: str) -> bool:
        """Whether this object is finished."""
        return (variant, case, object) in self._done

    def add(self, row: Row) -> Row:
        """Keep one more row (of an object, an error, or the objects of a finished case), on disk when this returns."""
        row = row if "objects" in row else {**row, **self._origin}
        self._file.write(_line({**row, "key": self.key}).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.added.append(row)
        self.take([row], errors=True)
        return row

    def replace(self, row: Row) -> Row:
        """Keep a row in the place of an earlier one of the same variant and object."""
        self.keep(lambda old: _name(old) != _name(row))
        return self.add(row)

    def take(self, rows: Iterable[Row], errors: bool = False) -> None:
        """Hold rows; of several for one object the first one counts, of errors those of this run."""
        for row in rows:
            if "objects" in row:
                self.cases[row["case"]] = row["objects"]
            elif "error" in row:
                self.errors += [row] if errors else []
            elif (name := _name(row)) not in self._done:
                self._done.add(name)
                self.rows.append(row)
                self._table = None

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Forget the rows that are not wanted, such as those of a method whose configuration has changed."""
        rows, self.rows = self.rows, []
        self._done.clear()
        self.take(row for row in rows if wanted(row))

    def write(self, summary: Mapping[str, Any]) -> None:
        """Write `path` and the CSV, each atomically; rows of another `fixed` there become STEM.<digits of key>.json."""
        failed = {_name(row): row for row in self.errors}
        self.errors = [failed[name] for name in sorted(failed) if name not in self._done]
        self.environment |= self._made()
        content = {
            "format": FORMAT,
            "format_version": VERSION,
            "key": self.key,
            "command": self.command,
            "about": self.about,
            "environment": self.environment,
            "fixed": self.fixed,
            "summary": summary,
            "cases": self.cases,
            "errors": self.errors,
            "rows": self.rows,
        }
        if self.path.exists() and (old := Record.read(self.path).key) != self.key:
            for suffix in (".csv", ".json"):
                if (file := self.path.with_suffix(suffix)).is_file():
                    file.replace(self.path.with_name(f"{self.path.stem}.{old[:8]}{suffix}"))
        if "predictor" in self.fixed:  # a single method
            self.table.to_csv(self.path.with_suffix(".csv"))
        write_text(self.path, "{\n" + ",\n".join(f"{json.dumps(k)}: {_text(v)}" for k, v in content.items()) + "\n}\n")
        for part in self.parts:
            if not any(other for row, other in _journal(part, self.key)):  # of an interrupted run of another `fixed`
                part.unlink()

    def finish(self, summary: Mapping[str, Any], tables: str) -> str:
        """Write the result and its tables (Markdown) beside it; returns what the latter file holds."""
        self.write(summary)
        text = f"{made_by(self.command, self.environment)}\n\n{tables.strip()}\n"
        write_text(self.path.with_suffix(".md"), text)
        return text

    def _made(self) -> dict[str, Any]:
        """Versions, commits and threads of the rows, lists where there are several."""
        several = {n: list(dict.fromkeys(r[n] for r in self.rows if n in r)) for n in (*self._origin, "threads")}
        return {name: values[0] if len(values) == 1 else values for name, values in several.items() if values}

    # What the rows come to.

    @property
    def name(self) -> str:
        """Name of the method of a benchmark."""
        return self.label or str(self.fixed["predictor"]["name"])

    @property
    def quality(self) -> str:
        """Column that tables and curves are about: "dice", or "iou" where clicks are counted."""
        return "iou" if self.about.get("scores") == "clicks" else "dice"

    @property
    def quality_name(self) -> str:
        """The same as readers know it."""
        return {"iou": "IoU", "dice": "Dice"}[self.quality]

    @property
    def table(self) -> Table:
        """One row per case, object and round of a single variant: dice, compliance, lost and others."""
        if self._table is None:
            self._table = Table(
                {
                    **{name: row[name] for name in ("case", "object", "group")},
                    "round": number,
                    **{m: row[m][k] for m in METRICS if m in row and row[m][k] is not None},
                }
                for row in self.rows
                for k, number in enumerate(row["rounds"])
            )
        return self._table

    @property
    def groups(self) -> list[str]:
        """Groups, sorted."""
        return sorted({str(row["group"]) for row in self.rows})

    @property
    def counted(self) -> list[str]:
        """Groups of the figures over all objects: those of the published table, all where it has none of them."""
        columns = self.about.get("columns") or ()
        return [group for group in self.groups if group in columns] or self.groups

    @property
    def rounds(self) -> int:
        """Number of rounds of the object that took most."""
        return max((row["rounds"][-1] for row in self.rows), default=0)

    def count(self, group: str | None = None) -> int:
        """Number of objects of a group (None: of `counted`)."""
        wanted = self.counted if group is None else [group]
        return sum(row["group"] in wanted for row in self.rows)

    def last(self) -> dict[tuple[str, str], float]:
        """Dice (or IoU) of every object after its last round."""
        return {(row["case"], row["object"]): row[self.quality][-1] for row in self.rows}

    def curve(self, column: str | None = None, group: str | None = None) -> list[float]:
        """Mean of a column (None: `quality`) after every round over the objects of a group (None: of `counted`).

        An ended object keeps its last value.
        """
        column = column or self.quality
        found = self.table.summary(group or self.counted, column) if self.rows else {}
        values = [found[f"{column}@{i}"] for i in range(1, self.rounds + 1) if f"{column}@{i}" in found]
        return values + values[-1:] * (self.rounds - len(values)) if values else []

    def median_seconds(self, group: str | None = None) -> float:
        """Median time of a round of all objects, or of a group; NaN without any."""
        return pace(row for row in self.rows if group in (None, row["group"]))

    def summary(self) -> dict[str, dict[str, float]]:
        """`Table.summary` of every group, and of those in `counted` as "all"."""
        if not self.rows:
            return {}
        table, named = self.table, {**{group: group for group in self.groups}, "all": self.counted}
        return {name: table.summary(groups, self.quality) for name, groups in named.items()}


def pace(rows: Iterable[Row]) -> float:
    """Median seconds of a round that had a prompt; NaN if there was none."""
    seconds = [s for row in rows for s in row.get("seconds", ()) if s]
    return float(np.median(seconds)) if seconds else float("nan")


def command_of(name: str, parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command that repeats this run, without folders of this machine and without defaults."""
    parts = [f"limnet bench {name}" + " --data ROOT" * hasattr(args, "data")]
    for option, value in vars(args).items():
        default = parser.get_default(option)
        if option in ("command", "out", "data", "fresh", "against") or value == default or value is None:
            continue
        flag = "--" + option.replace("_", "-")
        if value is True:
            parts.append(flag)
        elif default == [] and all(type(v) is str for v in value):  # an option that may be repeated
            parts += [f"{flag} {Path(v).name if option == 'model' else v}" for v in value]
        else:
            parts.append(f"{flag} {_shown(Path(value) if option == 'model' else value)}")
    return " ".join(parts)


def made_by(command: str, environment: Mapping[str, Any]) -> str:
    """A sentence (Markdown) on the command behind a result, and the commits at which it ran, where they are known."""
    commits = environment.get("commit") or []
    at = " and ".join(commit[:10] for commit in ([commits] if isinstance(commits, str) else commits))
    return f"Made by `{command}`" + (f" at commit {at}." if at else ".")


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)) and type(value).__str__ is object.__str__:
        return (" " if isinstance(value, list) else ",").join(map(_shown, value))  # argparse's nargs make lists
    return value.name if isinstance(value, Path) else str(value)


def result_path(out: Path, suite: str, predictor: str) -> Path:
    """`out` itself if it ends in .json, else `out`/SUITE_METHOD.json with a method's name fit for a file name."""
    if out.suffix == ".json":
        return out
    method = re.sub(r"[^A-Za-z0-9.=-]+", "-", predictor).strip("-.")
    return out / f"{suite}_{method or 'method'}.json"


def write_text(path: Path, text: str) -> Path:
    """Write a text file, atomically."""

    return atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _name(row: Row) -> tuple[str, str, str]:
    return row["variant"], row["case"], row["object"]


def _journal(path: Path, key: str) -> Iterable[tuple[Row, bool]]:
    """Rows, and whether they have another key than this one; lines that a crash cut short are skipped."""
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row, row.pop("key", None) != key


def _text(value: Any) -> str:
    """JSON with a line for each entry: small files, readable differences."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_line, value)) + "\n]"
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"{_line(str(k))}: {_line(v)}" for k, v in value.items()) + "\n}"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=float)
