"""Table V: pancreas tumour and colon cancer, data sets that were not trained on."""

from __future__ import annotations

from pathlib import Path

from limnet.bench.suite import Suite, SuiteOptions
from limnet.bench.suites.parts import Part, join

PARTS = (
    Part("msd-colon", ("Task10_Colon",), "val", {"colon cancer": (1,)}, cases=26),
    Part("msd-pancreas", ("Task07_Pancreas",), "test", {"pancreas tumour": (2,)}, cases=57),
)


def build(root: Path, options: SuiteOptions) -> Suite:
    """Held-out cases of MSD colon and pancreas."""
    return join("table5", "Table V: MSD pancreas tumour and colon cancer", root, options, PARTS)
