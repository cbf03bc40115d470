"""Published numbers, to be printed beside measured ones and marked as such; `published.json` holds them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from limnet.errors import InputError


def published_table(name: str) -> SimpleNamespace:
    """A table: title, source, columns (groups of a suite bear their names), rows, caveats that forbid comparisons.

    A row has a method as the paper names it, prompts ("6 rounds"), values (column -> Dice in 0..1, some may be
    missing), a note where numbers are not the paper's own, and a title, such as "Mem3D (published) [quoted]".

    Raises:
        InputError: there is none of that name.
    """
    found = _content()["tables"].get(name)
    if found is None:
        raise InputError(f"no published table {name!r}; there are {', '.join(published_names())}")
    rows = []
    for row in found["rows"]:
        values = {c: v / 100 for c, v in zip(found["columns"], row["values"], strict=True) if v is not None}
        note = row.get("note", "")
        title = f"{row['method']} (published)" + (f" [{note}]" if note else "")
        prompts = row.get("prompts", "")
        rows.append(SimpleNamespace(method=row["method"], prompts=prompts, values=values, note=note, title=title))
    caveats, source = [*_content()["caveats"], *found["caveats"]], _content()["source"]
    return SimpleNamespace(**{**found, "rows": rows, "caveats": caveats, "source": source})


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
