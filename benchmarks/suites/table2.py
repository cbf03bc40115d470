"""Table II: Table I with and without fusion."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import join
from benchmarks.suites.table1 import PARTS

VARIANTS: tuple[dict[str, float], ...] = ({"tau": 1.0}, {})
NOTE = "tau=1.0 is the method without fusion."


def build(root: Path, options: SuiteOptions) -> Suite:
    """Every model runs twice: tau=1 keeps the new mask always (without MRF), then with fusion."""
    title = "Table II: with and without fusion"
    return join("table2", title, root, options, PARTS, variants=VARIANTS, note=NOTE)
