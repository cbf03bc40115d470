"""Table I: kidneys and tumours after six rounds."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import Part, join

KIDNEY = {"kidney organ": (1, 2), "kidney tumour": (2,), "kidney without tumour": (1,)}  # organ: 1, or 1 and 2?
PARTS = (
    Part("kits19", ("KiTS19", "kits19"), "val", KIDNEY, cases=42),
    Part("msd-lung", ("Task06_Lung",), "val", {"lung": (1,)}, cases=21),
    Part("msd-colon", ("Task10_Colon",), "val", {"colon": (1,)}, cases=26),
)


def build(root: Path, options: SuiteOptions) -> Suite:
    """KiTS19 (Mem3D's 42 cases), MSD lung and colon (held-out labelled cases)."""
    return join("table1", "Table I: KiTS19, MSD lung and colon", root, options, PARTS)
