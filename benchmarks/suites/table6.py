"""Table VI: the four test sequences of EndoVis18 by class; video, a data set that was not trained on."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import Part, join

NAMES = {
    "clasper": "clasper",
    "clamp": "clips",
    "clip": "clips",
    "needle": "needle",
    "intestine": "intestine",
    "probe": "us probe",
    "shaft": "shaft",
    "wrist": "wrist",
    "parenchyma": "parenchyma",
}


def build(root: Path, options: SuiteOptions) -> Suite:
    """Every class of a sequence is one object, frames are slices; groups are the columns of the table."""
    parts = (Part("endovis18", ("EndoVis18", "endovis18"), "test", cases=4),)
    note = "Dice is that of a whole sequence; per slice: the mean over the frames that show the class."
    title = "Table VI: EndoVis18 test sequences"
    return join("table6", title, root, options, parts, group=sequence_and_class, note=note)


def sequence_and_class(case: str, label: str) -> str:
    """Group of a class in a sequence, such as "seq 1 clips"; other classes keep their name."""
    number = re.search(r"seq[-_ ]?(\d+)", case)
    short = next((column for part, column in NAMES.items() if part in label.lower()), label)
    return f"seq {number[1] if number else case} {short}"
