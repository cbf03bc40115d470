"""Journal of a benchmark run: one JSON object per line, appended as soon as an object is finished.

Every process writes a file of its own (`NAME.part0.jsonl`, `NAME.part1.jsonl`, ...), so that nothing is lost or mixed
on network file systems; all of them are read when a run goes on. A line that a crash cut short is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from limnet.errors import SaveError


class Journal:
    """Appends records of one process.

    Args:
        out: the result file the journal belongs to, such as results/open.json.
        rank: number of this process.

    Raises:
        SaveError: the folder cannot be written.
    """

    def __init__(self, out: Path, rank: int = 0) -> None:
        self.path = part_path(out, rank)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab+")  # noqa: SIM115
        except OSError as error:
            raise SaveError(f"could not write {self.path} ({error}); choose another --out") from error
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")  # the last line was cut short; the next one must start afresh

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; it is on disk when this returns."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def part_path(out: Path, rank: int) -> Path:
    """Journal of one process beside the result file."""
    return out.with_name(f"{out.stem}.part{rank}.jsonl")


def read_journals(out: Path, key: str) -> list[dict[str, Any]]:
    """All records of earlier runs with this key (see `Run.key`), in the order they were written, process by process."""
    return [record for path in sorted(_parts(out)) for record in _lines(path) if record.get("key") == key]


def remove_journals(out: Path) -> None:
    """Delete the journals of a result file."""
    for path in _parts(out):
        path.unlink(missing_ok=True)


def _parts(out: Path) -> list[Path]:
    head = f"{out.stem}.part"
    if not out.parent.is_dir():
        return []
    return [
        path
        for path in out.parent.iterdir()
        if path.name.startswith(head) and path.suffix == ".jsonl" and path.stem[len(head) :].isdigit()
    ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
