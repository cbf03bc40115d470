"""Table V: pancreas tumour and colon cancer, data sets that were not trained on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import Part, join

FOLD = {"protocol": "3dsam"}  # the quoted rows are 3DSAM-adapter's, measured on its test cases
PARTS = (
    Part("msd-colon", ("Task10_Colon",), "test", {"colon cancer": (1,)}, cases=26, options=FOLD),
    Part("msd-pancreas", ("Task07_Pancreas",), "test", {"pancreas tumour": (2,)}, cases=57, options=FOLD),
)


def build(root: Path, options: SuiteOptions) -> Suite:
    """The test cases of 3DSAM-adapter, MSD colon and pancreas."""
    return join("table5", "Table V: MSD pancreas tumour and colon cancer", root, options, PARTS)
