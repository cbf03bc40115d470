"""Published numbers, to be printed beside measured ones and marked as such."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from limnet.errors import InputError


class PublishedRow(NamedTuple):
    """A row: method as the paper names it, how much it was told ("6 rounds"), column -> Dice in 0..1, and a note.

    Columns may be missing. The note tells where numbers come from that are not the paper's own.
    """

    method: str
    prompts: str
    values: dict[str, float]
    note: str = ""

    @property
    def title(self) -> str:
        """Method and note as tables print them, such as "Mem3D (published) [quoted]"."""
        return f"{self.method} (published)" + (f" [{self.note}]" if self.note else "")


class PublishedTable(NamedTuple):
    """A table; groups of a suite bear the names of its columns, caveats keep the numbers from being compared."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    caveats: tuple[str, ...]


def published_table(name: str) -> PublishedTable:
    """A table of `published.json`; raises InputError where there is none of that name."""
    tables = _content()["tables"]
    if name not in tables:
        raise InputError(f"no published table {name!r}; there are {', '.join(tables)}")
    found, rows = tables[name], []
    for row in tables[name]["rows"]:
        values = {c: v / 100 for c, v in zip(found["columns"], row["values"], strict=True) if v is not None}
        rows.append(PublishedRow(row["method"], row.get("prompts", ""), values, row.get("note", "")))
    caveats = (*_content()["caveats"], *found["caveats"])
    return PublishedTable(found["title"], _content()["source"], tuple(found["columns"]), tuple(rows), caveats)


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


@cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
