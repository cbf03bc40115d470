"""Result file of a benchmark: head, summary, table of all rounds, and its CSV.

Times are kept apart from the rest: all else but the head is identical for any number of processes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core.published import published_table
from benchmarks.core.tables import write_text
from limnet.errors import FileFormatError, LimnetError, MissingFileError
from limnet.metrics.table import Table

FORMAT = "limnet-bench"
VERSION = 1
_DETAILS = ("case", "object", "group", "axis", "voxels", "clicks")


@dataclass(frozen=True)
class BenchResults:
    """Content of a result file.

    Attributes:
        header: suite, configuration, command, versions, machine; see `benchmarks.core.run`.
        table: one row per case, object and round: dice, compliance, lost and where asked for nsd or iou.
        objects: one entry per object, sorted by case and object: case, object, group, axis, voxels, clicks
            ([z, y, x, 1 or 0] each, None for a box).
        errors: what failed: case, object ("" for a case that could not be read), error.
        seconds: times of the rounds, one list per entry of `objects`.
    """

    header: Mapping[str, Any]
    table: Table
    objects: Sequence[Mapping[str, Any]]
    errors: Sequence[Mapping[str, Any]] = ()
    seconds: Sequence[Sequence[float]] = ()

    @property
    def name(self) -> str:
        """Name of the method."""
        return str(self.header["predictor"]["name"])

    @property
    def quality(self) -> str:
        """Column that tables and curves are about: "dice", or "iou" where clicks are counted."""
        return "iou" if self.header.get("scores") == "clicks" else "dice"

    @property
    def quality_name(self) -> str:
        """The same as readers know it."""
        return {"iou": "IoU", "dice": "Dice"}[self.quality]

    @property
    def groups(self) -> list[str]:
        """Groups, sorted."""
        return sorted({str(o["group"]) for o in self.objects})

    @property
    def counted(self) -> list[str]:
        """Groups of the figures over all objects: the columns of the published table, all where it has none of them."""
        name = self.header.get("published")
        columns = published_table(name).columns if name else ()
        return [group for group in self.groups if group in columns] or self.groups

    @property
    def rounds(self) -> int:
        """Number of rounds of the object that took most."""
        return max((row["round"] for row in self.table.rows), default=0)

    def curve(self, column: str | None = None, group: str | None = None) -> list[float]:
        """Mean of a column (None: `quality`) after every round over the objects of a group (None: of `counted`).

        An ended object keeps its last value.
        """
        column = column or self.quality
        found = self.table.summary(group or self.counted, column) if self.table.rows else {}
        values = [found[f"{column}@{i}"] for i in range(1, self.rounds + 1) if f"{column}@{i}" in found]
        return values + values[-1:] * (self.rounds - len(values)) if values else []

    def median_seconds(self, group: str | None = None) -> float:
        """Median time of a round of all objects, or of a group; NaN without any."""
        some = [
            s
            for o, times in zip(self.objects, self.seconds, strict=False)
            if group is None or o["group"] == group
            for s in times
        ]
        return float(np.median(some)) if some else math.nan

    def summary(self) -> dict[str, dict[str, float]]:
        """`Table.summary` of every group, and of those in `counted` as "all"."""
        if not self.table.rows:
            return {}
        by_group = {group: self.table.summary(group, self.quality) for group in self.groups}
        return {**by_group, "all": self.table.summary(self.counted, self.quality)}

    def write(self, path: Path) -> None:
        """Write `path` (JSON) and the table beside it (.csv), each atomically.

        Results of another configuration or of other data that are there are kept, as NAME.<8 digits of their key>.json.

        Raises:
            SaveError: a file cannot be written.
        """
        median = self.median_seconds()
        content = {
            "format": FORMAT,
            "format_version": VERSION,
            "header": self.header,
            "summary": self.summary(),
            "errors": list(self.errors),
            "objects": list(self.objects),
            "rows": self.table.rows,
            "timing": {"median_seconds": None if math.isnan(median) else round(median, 4), "seconds": self.seconds},
        }
        # One line per object and row: small files, readable differences.
        parts = [f"{json.dumps(k)}: {_lines(v)}" for k, v in content.items()]
        text = "{\n" + ",\n".join(parts) + "\n}\n"
        _put_aside(path, self.header)
        self.table.to_csv(path.with_suffix(".csv"))
        write_text(path, text)


def from_records(header: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> BenchResults:
    """Results out of the records of all processes, in any order; of several for one object a finished one holds."""
    found = list(records)
    kept = finished_objects(found)
    whole = {record["case"] for record in found if record["type"] == "case"}
    done = {(record["case"], record["object"]) for record in kept}
    errors = {(r["case"], r["object"]): r for r in found if r["type"] == "error" and r["case"] not in whole}
    rows = [
        {**{k: o[k] for k in ("case", "object", "group")}, "round": n, **values}
        for o in kept
        for n, values in zip(o["rounds"], o["values"], strict=True)
    ]
    return BenchResults(
        header,
        Table(rows),
        [{k: o[k] for k in _DETAILS} for o in kept],
        [{k: errors[n][k] for k in ("case", "object", "error")} for n in sorted(errors) if n not in done],
        [list(o["seconds"]) for o in kept],
    )


def result_path(out: Path, suite: str, predictor: str) -> Path:
    """`out` itself if it ends in .json, else `out`/SUITE_METHOD.json with a method's name fit for a file name."""
    if out.suffix == ".json":
        return out
    method = re.sub(r"[^A-Za-z0-9.=-]+", "-", predictor).strip("-.")
    return out / f"{suite}_{method or 'method'}.json"


def finished_objects(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first record of every finished object, sorted by case and object."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in records:
        if record["type"] == "object":
            found.setdefault((record["case"], record["object"]), record)
    return [found[name] for name in sorted(found)]


def read_results(path: Path) -> BenchResults:
    """Read a result file.

    Raises:
        MissingFileError: there is none.
        FileFormatError: it is damaged or no result of `limnet bench`.
    """
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
        raise FileFormatError(f"{path} has format version {found.get('format_version')}; this limnet reads {VERSION}")
    try:
        table = Table(found["rows"])
        return BenchResults(found["header"], table, found["objects"], found["errors"], found["timing"]["seconds"])
    except (KeyError, TypeError, LimnetError) as error:
        raise FileFormatError(f"{path} is damaged ({error}); run the benchmark again") from error


def _put_aside(path: Path, header: Mapping[str, Any]) -> None:
    """Give the results at `path`, if they are others than those of `header`, and their table another name."""
    try:
        old = read_results(path).header
    except (MissingFileError, FileFormatError):
        return
    if any(old.get(name) != header.get(name) for name in ("key", "data")):
        for suffix in (".csv", path.suffix):
            file = path.with_suffix(suffix)
            if file.is_file():
                file.replace(path.with_name(f"{path.stem}.{str(old.get('key'))[:8]}{suffix}"))


def _lines(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(json.dumps(v, allow_nan=False) for v in value) + "\n]"
    return json.dumps(value, allow_nan=False, indent=1) if isinstance(value, dict) else json.dumps(value)
