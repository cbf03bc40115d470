"""The tables of the paper, and Figure 3: which data sets, splits and labels; see `benchmarks.suites.parts.join`."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import Part, join

KIDNEY = {"kidney organ": (1, 2), "kidney tumour": (2,), "kidney without tumour": (1,)}  # organ: 1, or 1 and 2?
TABLE1 = (
    Part("kits19", ("KiTS19", "kits19"), "val", KIDNEY, cases=42),
    Part("msd-lung", ("Task06_Lung",), "val", {"lung": (1,)}, cases=21),
    Part("msd-colon", ("Task10_Colon",), "val", {"colon": (1,)}, cases=26),
)
ORGANS = {
    "left kidney": (3,),
    "right kidney": (2,),
    "aorta": (8,),
    "spleen": (1,),
    "esophagus": (5,),
    "liver": (6,),
}
# The 18 cases that TransUNet trains on: the paper's 2,210 slices are theirs. The other 12 are split "val".
TABLE4 = (Part("btcv", ("BTCV", "btcv", "RawData"), "train", ORGANS, cases=18),)
FOLD = {"protocol": "3dsam"}  # the quoted rows are 3DSAM-adapter's, measured on its test cases
TABLE5 = (
    Part("msd-colon", ("Task10_Colon",), "test", {"colon cancer": (1,)}, cases=26, options=FOLD),
    Part("msd-pancreas", ("Task07_Pancreas",), "test", {"pancreas tumour": (2,)}, cases=57, options=FOLD),
)
TABLE6 = (Part("endovis18", ("EndoVis18", "endovis18"), "test", cases=4),)
CLASSES = {
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
FUSION: tuple[dict[str, float], ...] = ({"tau": 1.0}, {})
"""Every model runs twice: tau=1 keeps the new mask always (without fusion), then with fusion."""

WITHOUT = "tau=1.0 is the method without fusion."
LONG = RobotRounds(10)  # the paper speaks of more than seven and prints no number


def table1(root: Path, options: SuiteOptions) -> Suite:
    """KiTS19 (Mem3D's 42 cases), MSD lung and colon (held-out labelled cases), six rounds."""
    return join("table1", "Table I: KiTS19, MSD lung and colon", root, options, TABLE1)


def table2(root: Path, options: SuiteOptions) -> Suite:
    """Table I with and without fusion."""
    title = "Table II: with and without fusion"
    return join("table2", title, root, options, TABLE1, variants=FUSION, note=WITHOUT)


def figure3(root: Path, options: SuiteOptions) -> Suite:
    """Table II over more rounds."""
    note = f"{WITHOUT} The published rows are Table II's, after six rounds."
    title = "Figure 3: Dice over ten rounds, with and without fusion"
    return join("figure3", title, root, options, TABLE1, rounds=LONG, variants=FUSION, note=note, published="table2")


def table4(root: Path, options: SuiteOptions) -> Suite:
    """Six abdominal organs of BTCV, a data set that was not trained on."""
    return join("table4", "Table IV: BTCV", root, options, TABLE4)


def table5(root: Path, options: SuiteOptions) -> Suite:
    """The test cases of 3DSAM-adapter, MSD colon and pancreas: data sets that were not trained on."""
    return join("table5", "Table V: MSD pancreas tumour and colon cancer", root, options, TABLE5)


def table6(root: Path, options: SuiteOptions) -> Suite:
    """EndoVis18, a data set that was not trained on: a class of a sequence is one object, frames are slices."""
    note = "Dice is that of a whole sequence; per slice: the mean over the frames that show the class."
    title = "Table VI: EndoVis18 test sequences"
    return join("table6", title, root, options, TABLE6, group=sequence_and_class, note=note)


def sequence_and_class(case: str, label: str) -> str:
    """Column of a class in a sequence, such as "seq 1 clips"; other classes keep their name."""
    number = re.search(r"seq[-_ ]?(\d+)", case)
    short = next((column for part, column in CLASSES.items() if part in label.lower()), label)
    return f"seq {number[1] if number else case} {short}"
