"""Rows of a measurement, kept in a file after every one: an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.core.tables import write_text
from limnet.environment import environment
from limnet.errors import FileFormatError, InputError

Row = dict[str, Any]


class Record:
    """`<folder>/<name>.json` with the rows measured so far, and the table and plot made from them beside it.

    Args:
        folder: made if need be.
        name: stem of the files.
        command: the command that makes them, for the record.
        fixed: what must be the same for all rows (model, rounds, split ...), JSON types.
        fresh: begin again, whatever is there.

    Raises:
        InputError: the file there was made with another `fixed`.
        FileFormatError: the file there is no record.
    """

    def __init__(self, folder: Path, name: str, command: str, fixed: Mapping[str, Any], fresh: bool = False) -> None:
        self.folder, self.name, self.command = Path(folder), name, command
        self.fixed: dict[str, Any] = json.loads(json.dumps(dict(fixed)))
        self.rows: list[Row] = []
        self.summary: dict[str, Any] = {}
        self.environment = environment()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not fresh:
            self._read()

    @property
    def path(self) -> Path:
        """The JSON file."""
        return self.folder / f"{self.name}.json"

    @property
    def plot(self) -> Path:
        """The PNG file."""
        return self.folder / f"{self.name}.png"

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a row with these entries."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def add(self, row: Row) -> None:
        """Keep one more row, on disk."""
        self.rows.append(row)
        self._write()

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Forget the rows that are not wanted, such as those of a method whose configuration has changed."""
        self.rows = [row for row in self.rows if wanted(row)]

    def finish(self, summary: Mapping[str, Any], tables: str) -> Path:
        """Write the summary into the JSON file and the tables (Markdown) beside it; returns the path of the latter."""
        self.summary = dict(summary)
        self._write()
        text = f"Made by `{self.command}`.\n\n{tables.strip()}\n"
        return write_text(self.folder / f"{self.name}.md", text)

    def _read(self) -> None:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            rows, fixed = kept["rows"], kept["fixed"]
        except (ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{self.path} is no record of a benchmark ({error}): give another --out") from error
        if fixed != self.fixed:
            differs = [k for k in sorted({*fixed, *self.fixed}) if fixed.get(k) != self.fixed.get(k)]
            raise InputError(
                f"{self.path} was measured with another {', '.join(differs)}: give another --out, or --fresh"
            )
        self.rows = rows

    def _write(self) -> None:
        content = {
            "command": self.command,
            "environment": self.environment,
            "fixed": self.fixed,
            "summary": self.summary,
            "rows": self.rows,
        }
        text = json.dumps(content, indent=1, ensure_ascii=False, default=float)
        write_text(self.path, text)
