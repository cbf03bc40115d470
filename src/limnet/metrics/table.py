"""A table of results: one row per case, object and round; its means, summary and files."""

from __future__ import annotations

import csv
import json
import math
import operator
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

from limnet.errors import InputError, InputTypeError
from limnet.image.io.atomic import atomic_write
from limnet.metrics.interaction import auc_over_rounds, clicks_to_quality, rounds_that_lost

FIELDS = ("case", "object", "group", "round")
"""Columns every row has; all others hold numbers."""

QUALITIES = (0.80, 0.85, 0.90)
"""Qualities at which `Table.summary` counts clicks."""

By = Literal["case", "object", "group", "round"]


class Table:
    """Rows sorted by (case, object, round), each there once.

    `rows` have "case", "object", "group", "round", and any number of named numbers, in alphabetical order. Those that
    agree in everything are kept once, whatever their order; InputError for two of the same case, object and round that
    differ, and for what is no row.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        found: dict[tuple[str, str, int], dict[str, Any]] = {}
        for given in rows:
            row = checked_row(given)
            key = (row["case"], row["object"], row["round"])
            if key in found and _exact(found[key]) != _exact(row):
                raise InputError(
                    f"case {key[0]!r}, object {key[1]!r}, round {key[2]} came twice with different results: "
                    f"{found[key]} and {row}. Give cases unique names; results of one case have to be reproducible"
                )
            found.setdefault(key, row)
        self.rows: list[dict[str, Any]] = [found[key] for key in sorted(found)]

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and [*map(_exact, self.rows)] == [*map(_exact, other.rows)]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Table({len(self.rows)} rows; {', '.join(self.columns) or 'no numbers'})"

    @property
    def columns(self) -> list[str]:
        """Names of the numbers, in alphabetical order."""
        return sorted({name for row in self.rows for name in row} - set(FIELDS))

    @overload
    def mean(self, column: str, by: None = None, round: int | None = None) -> float: ...
    @overload
    def mean(self, column: str, by: By, round: int | None = None) -> dict[str | int, float]: ...
    def mean(self, column: str, by: By | None = None, round: int | None = None) -> float | dict[str | int, float]:
        """Mean of a column over the rows that have it, NaN if none has; with `by`, for each value of this field apart.

        NaN counts as not measured and is left out; an infinite value is not. The sum is exact, so the mean does not
        depend on the order of the rows. With `round` only rows of this round count: objects that ended before it have
        none; `summary` carries them on.

        Raises:
            InputError: a column that this table lacks, or another field than those of a row.
        """
        if by is not None and by not in FIELDS:
            raise InputError(f"by={by!r} came; allowed: None, {', '.join(map(repr, FIELDS))}")
        if self.rows and column not in self.columns:
            raise InputError(f"column {column!r} came; this table has {', '.join(self.columns) or 'no numbers'}")
        rows = [row for row in self.rows if round is None or row["round"] == round]
        values: dict[Any, list[float]] = {}
        for row in rows:
            values.setdefault(row[by] if by else None, []).append(row.get(column, math.nan))
        return {key: _mean(values[key]) for key in sorted(values)} if by else _mean(values.get(None, []))

    def curves(self, column: str = "dice", group: str | None = None) -> dict[tuple[str, str], list[float]]:
        """{(case, object): column after round 1, 2, ...}, of the rows of a group if given.

        A round 0 (a mask that was there before the first click) is left out. Objects may have ended early: curves
        differ in length. InputError for an object that lacks a round or a value in between.
        """
        return {key: [v for r, v in curve if r > 0] for key, curve in self._courses(column, group).items()}

    def summary(self, group: str | Collection[str] | None = None, column: str = "dice") -> dict[str, float]:
        """The figures of a benchmark, ready for a logger, of the rows of a group or groups if given.

        An object whose rounds ended early (nothing was left to click on) keeps its last value in all later rounds.

        Returns:
            With column="dice" and R rounds: "objects"; "dice@1" ... "dice@R", means over the objects; "noc@80",
            "noc@85", "noc@90", mean clicks, R where it is not reached; "failed@80" ..., share of objects that never
            reach it; "dice_auc" (trapezoid, 0 to R - 1) and "dice_mean"; "rounds_lost", share of the rounds that were
            made after a mask was there and lost more than 0.02; "compliance", mean over all rows that have it; and for
            every other column, such as nsd, "nsd_final", mean of the last value of each object. Entries without any
            data are left out.
        """
        courses = self._courses(column, group)
        curves = {key: values for key, curve in courses.items() if (values := [v for r, v in curve if r > 0])}
        result: dict[str, float] = {"objects": len(courses)}
        if curves:
            last = max(map(len, curves.values()))
            full = [values + values[-1:] * (last - len(values)) for values in curves.values()]
            result |= {f"{column}@{i + 1}": _mean([values[i] for values in full]) for i in range(last)}
            for quality in QUALITIES:
                percent = f"{100 * quality:.0f}"
                result[f"noc@{percent}"] = _mean([clicks_to_quality(values, quality) for values in full])
                result[f"failed@{percent}"] = _mean([float(max(values) < quality) for values in full])
            result[f"{column}_auc"] = _mean([auc_over_rounds(values) for values in full])
            result[f"{column}_mean"] = _mean([auc_over_rounds(values, "mean") for values in full])
        made = sum(len(curve) - 1 for curve in courses.values())
        if made:
            lost = sum(len(rounds_that_lost([v for _, v in curve])) for curve in courses.values())
            result["rounds_lost"] = lost / made
        rows = self._of(group)
        for other in self.columns:
            final = {(row["case"], row["object"]): row[other] for row in rows if other in row}
            if other == "compliance" and final:
                result[other] = _mean([row[other] for row in rows if other in row])
            elif other != column and final:
                result[f"{other}_final"] = _mean(list(final.values()))
        return result

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a CSV file atomically: the fields, then the numbers, exact; blank where a row has none."""
        columns = [*FIELDS, *self.columns]

        def write(temporary: Path) -> None:
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)

        return atomic_write(path, write)

    def _of(self, group: str | Collection[str] | None) -> list[dict[str, Any]]:
        wanted = {group} if isinstance(group, str) else group
        return [row for row in self.rows if wanted is None or row["group"] in wanted]

    def _courses(
        self, column: str, group: str | Collection[str] | None
    ) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """(round, value) of each object, from round 0 or 1 on without a gap."""
        found: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for row in self._of(group):
            course = found.setdefault((row["case"], row["object"]), [])
            if column not in row:
                raise InputError(f"{row} has no {column!r}; every row of a curve needs it. Columns: {self.columns}")
            if row["round"] != (course[-1][0] + 1 if course else min(row["round"], 1)):
                raise InputError(
                    f"{row} is not the round after {course[-1:] or 'the start'}; give every round from 1 on"
                )
            course.append((row["round"], row[column]))
        return found


def checked_row(given: Mapping[str, Any]) -> dict[str, Any]:
    """A row with plain Python types: three texts, the round, then the numbers in alphabetical order of their names.

    InputError for a field that is missing or empty, or a round below 0; InputTypeError for one of another type.
    """
    row: dict[str, Any] = {}
    for name in ("case", "object", "group"):
        value = given.get(name)
        if not isinstance(value, str):
            raise InputTypeError(f"{name} is {value!r}; a text is expected")
        if not value and name != "group":
            raise InputError(f"{name} is empty; give every case and object a name")
        row[name] = str(value)
    for name in ("round", *sorted(set(given) - set(FIELDS))):
        value, whole = given.get(name), name == "round"
        try:
            if isinstance(value, (str, bytes)) or (whole and isinstance(value, bool)):
                raise TypeError
            row[name] = operator.index(value) if whole else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputTypeError(f"{name} is {value!r}; {'a whole' if whole else 'one'} number is expected") from error
    if row["round"] < 0:
        raise InputError(f"round is {row['round']}; rounds count from 1, 0 is the mask before the first click")
    return row


def _exact(row: Mapping[str, Any]) -> str:
    """Text that is equal for equal rows only, NaN included."""
    return json.dumps(row)


def _mean(values: list[float]) -> float:
    kept = [v for v in values if not math.isnan(v)]
    if {math.inf, -math.inf} <= set(kept):
        return math.nan
    return math.fsum(kept) / len(kept) if kept else math.nan
