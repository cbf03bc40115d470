"""Means of kept rows, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
ALL = "all"


def checkpoints(rounds: int) -> tuple[int, ...]:
    """The rounds that tables show: 1, 3 and 6, as far as there are so many, and the last."""
    return tuple(sorted({r for r in (1, 3, 6, rounds) if r <= rounds}))


def groups_of(rows: Iterable[Row]) -> list[str]:
    """Groups in the order of the rows, and `ALL` at the end; `ALL` alone where there is but one."""
    found = list(dict.fromkeys(str(row["group"]) for row in rows))
    return [*found, ALL] if len(found) > 1 else [ALL]


def of_group(rows: Iterable[Row], group: str) -> list[Row]:
    """The rows of a group; all of them for `ALL`."""
    return [row for row in rows if group in (row["group"], ALL)]


def of_variant(rows: Iterable[Row], variant: str) -> list[Row]:
    """The rows of a variant."""
    return [row for row in rows if row["variant"] == variant]


def common_rows(rows: Sequence[Row], variants: Sequence[str]) -> list[Row]:
    """The rows of objects that every variant has, none of them left out: only those can be compared."""
    have = [{(r["case"], r["object"]) for r in of_variant(rows, v) if "left_out" not in r} for v in variants]
    shared = set.intersection(*have) if have else set()
    return [row for row in rows if (row["case"], row["object"]) in shared and row["variant"] in variants]


def full(values: Sequence[float], rounds: int) -> list[float]:
    """Values of all rounds: an object that ended keeps its last one."""
    return [*values, *[values[-1]] * (rounds - len(values))]


def mean_dice(rows: Sequence[Row], rounds: int) -> list[float]:
    """Mean over the rows, for every round."""
    return [float(v) for v in np.mean([full(row["dice"], rounds) for row in rows], axis=0)] if rows else []


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
