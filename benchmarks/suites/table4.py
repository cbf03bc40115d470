"""Table IV: six abdominal organs of BTCV, a data set that was not trained on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import Part, join

ORGANS = {
    "left kidney": (3,),
    "right kidney": (2,),
    "aorta": (8,),
    "spleen": (1,),
    "esophagus": (5,),
    "liver": (6,),
}


def build(root: Path, options: SuiteOptions) -> Suite:
    """The 18 cases that TransUNet trains on: the paper's 2,210 slices are theirs. The other 12 are split "val"."""
    parts = (Part("btcv", ("BTCV", "btcv", "RawData"), "train", ORGANS, cases=18),)
    return join("table4", "Table IV: BTCV", root, options, parts)
