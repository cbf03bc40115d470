"""Figure 3: Dice over ten rounds with and without fusion."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import join
from benchmarks.suites.table1 import PARTS
from benchmarks.suites.table2 import NOTE, VARIANTS

ROUNDS = RobotRounds(10)  # the paper speaks of more than seven and prints no number


def build(root: Path, options: SuiteOptions) -> Suite:
    """Table II over more rounds."""
    note = f"{NOTE} The published rows are Table II's, after six rounds."
    title = "Figure 3: Dice over ten rounds, with and without fusion"
    return join("figure3", title, root, options, PARTS, rounds=ROUNDS, variants=VARIANTS, note=note, published="table2")
