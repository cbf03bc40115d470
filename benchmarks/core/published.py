"""Published numbers, to be printed beside measured ones and marked as such."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from limnet.errors import InputError


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table.

    Attributes:
        method: as the paper names it.
        prompts: how much it was told, such as "6 rounds"; empty for automatic methods.
        values: column -> Dice in 0..1; columns may be missing.
        note: where the numbers come from if not from the paper's own measurements; short, it stands in tables.
    """

    method: str
    prompts: str
    values: Mapping[str, float]
    note: str = ""

    @property
    def title(self) -> str:
        """Method and note as tables print them, such as "Mem3D (published) [quoted]"."""
        return f"{self.method} (published)" + (f" [{self.note}]" if self.note else "")


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper.

    Attributes:
        title: what it shows.
        source: the paper.
        columns: in its order; groups of a suite bear the same names.
        rows: its rows.
        caveats: what keeps the numbers from being compared.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    caveats: tuple[str, ...]


def published_table(name: str) -> PublishedTable:
    """A table of `published.json`.

    Raises:
        InputError: no such table.
    """
    tables = _content()["tables"]
    if name not in tables:
        raise InputError(f"no published table {name!r}; there are {', '.join(tables)}")
    found = tables[name]
    rows = tuple(
        PublishedRow(row["method"], row.get("prompts", ""), _values(row, found["columns"]), row.get("note", ""))
        for row in found["rows"]
    )
    caveats = (*_content()["caveats"], *found["caveats"])
    return PublishedTable(found["title"], _content()["source"], tuple(found["columns"]), rows, caveats)


def published_names() -> list[str]:
    """Names of all tables."""
    return list(_content()["tables"])


def published_runtime() -> SimpleNamespace:
    """The run time the LIM-Net paper states; its attributes are those of "runtime" in `published.json`."""
    return SimpleNamespace(**_content()["runtime"])


def published_clicks() -> SimpleNamespace:
    """Clicks to an IoU that papers state: source, columns (data sets), caveats, and rows.

    A row is (method, quality in percent, "85" or "90", column -> mean clicks; columns may be missing).
    """
    found = _content()["clicks"]
    rows = [
        (row["method"], quality, {c: v for c, v in zip(found["columns"], values, strict=True) if v is not None})
        for row in found["rows"]
        for quality in ("85", "90")
        if (values := row.get(f"noc{quality}")) is not None
    ]
    return SimpleNamespace(**{**found, "rows": rows})


def _values(row: Mapping[str, Any], columns: list[str]) -> dict[str, float]:
    pairs = zip(columns, row["values"], strict=True)
    return {column: value / 100 for column, value in pairs if value is not None}


@cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
