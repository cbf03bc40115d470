"""Markdown tables and the figures in them; published numbers to print beside measured ones (`published.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from limnet.errors import InputError


def markdown(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats get three decimals, NaN and None a dash."""
    rows = [[_cell(v) for v in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(head), rule, *rows]) + "\n"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.3f}" if np.isfinite(value) else "-"


def mean_and_error(values: Sequence[float]) -> str:
    """Mean of differences with its standard error."""
    if not values:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):+.4f} ± {error:.4f}"


def targets(met: Mapping[str, bool]) -> str:
    """A list of what was wanted, and whether it is met."""
    return "## Targets\n\n" + "".join(f"- {what}: {'met' if ok else 'not met'}\n" for what, ok in met.items())


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f} %" if np.isfinite(value) else "-"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "\\|")


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
