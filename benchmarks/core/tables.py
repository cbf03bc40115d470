"""Markdown tables and the figures in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


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
