"""The tables of the paper, and Figure 3: suites over one or several data sets that lie side by side in one folder."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.core.report import published_names
from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Grouping, ObjectChoice, Suite, SuiteOptions
from limnet.data.dataset import LabelledCase, LabelledDataset
from limnet.datasets.registry import dataset_class
from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError


@dataclass(frozen=True)
class Part:
    """A split of one data set.

    Attributes:
        dataset: its name in `limnet.datasets.registry`.
        folders: names under which it may lie in the root.
        split: the split that is reported; "all" takes every case.
        merge: objects by label ids, see `ObjectChoice`; None takes every label.
        common: other folders are laid out like it too (images beside masks), so that the root itself is taken for it
            by its name alone, or where the part is asked for.
        cases: published number of cases of that split, if it is known.
        options: arguments of the data set besides its folder.
        title: what notes call it; the data set's name by default.
    """

    dataset: str
    folders: tuple[str, ...]
    split: str
    merge: Mapping[str, tuple[int, ...]] | None = None
    common: bool = False
    cases: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


Found = tuple[str, Part, LabelledDataset, list[LabelledCase]]
"""A part that is there, under its name in the suite, with the cases that the options ask for."""


def join(
    name: str,
    title: str,
    root: Path,
    options: SuiteOptions,
    parts: Sequence[Part],
    *,
    rounds: RobotRounds | None = None,
    group: Grouping | None = None,
    variants: Sequence[Mapping[str, Any]] = ({},),
    note: str = "",
    published: str | None = None,
) -> Suite:
    """A suite of all parts that are there, see `gather`.

    limnet models run the method of the paper, whatever settings they come with, unless the options say otherwise.
    Whole labels are objects, however small; slices along axis 0; six rounds by default. `published` is by default the
    table of the suite's name. For the rest see `Suite`.
    """
    base = options.chosen(ObjectChoice(smallest=1, components=()))
    found, told = gather(name, root, options, {part.dataset: part for part in parts})
    choices = {case.name: dataclasses.replace(base, merge=part.merge) for _, part, _, cases in found for case in cases}
    return Suite(
        name="-".join([name, *options.parts]),
        title=title,
        cases=[case for _, _, _, cases in found for case in cases],
        rounds=options.played(rounds or RobotRounds()),
        choice=base,
        group=group,
        choices=choices,
        parts={part.dataset: [options.split or part.split, part.merge, dict(part.options)] for part in parts},
        variants=variants,
        method="paper",
        published=published or (name if name in published_names() else None),
        note=" ".join(filter(None, (note, told))),
    )


def gather(name: str, root: Path, options: SuiteOptions, parts: Mapping[str, Part]) -> tuple[list[Found], str]:
    """Of a suite's parts those that the options ask for and that are there; what a reader must know of the others.

    One whose folder cannot be used, as files are missing or damaged, is told in a warning, too.

    Raises:
        MissingFileError: none of them is there, or can be used.
        InputError: a data set has no such split, or the suite no such part.
    """
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        raise InputError(f"benchmark {name} has no part {unknown[0]!r}; its parts are {', '.join(parts)}")
    found: list[Found] = []
    faults: dict[str, LimnetError] = {}
    fewer, lacking = [], []
    wanted = {key: part for key, part in parts.items() if not options.parts or key in options.parts}
    for key, part in wanted.items():
        title, split = part.title or part.dataset, options.split or part.split
        dataset, fault = opened(root, part, key in options.parts)
        if fault is not None:
            faults[title] = fault
        elif dataset is None:
            lacking.append(title)
        else:
            cases = dataset.all_cases() if split == "all" else dataset.cases(split)
            found.append((key, part, dataset, cases[: options.per_group]))
            if part.cases is not None and split == part.split and len(cases) < part.cases:
                fewer.append(f"{title} {len(cases)} of {part.cases}")
    if not found:
        raise _no_data(name, root, list(wanted.values()))
    for title, fault in faults.items():
        warnings.warn(f"{title} is not measured, its folder cannot be used: {fault}")
    told = [
        f"Cases that are there, of those published: {', '.join(fewer)}." if fewer else "",
        f"Not measured, for lack of data: {', '.join(lacking)}." if lacking else "",
        f"Not measured, as their folders cannot be used: {', '.join(faults)}." if faults else "",
    ]
    return found, " ".join(filter(None, told))


def _no_data(name: str, root: Path, parts: Sequence[Part]) -> MissingFileError:
    """The error of a suite of which no part is there; tells what is wrong with the folders that are."""
    wanted = [f"{part.dataset} in {' or '.join(part.folders)}" for part in parts]
    faults = [f"{part.dataset} cannot be used: {fault}. " for part in parts if (fault := opened(root, part)[1])]
    alike = [part.dataset for part in parts if part.common and opened(root, part, asked=True)[0] is not None]
    return MissingFileError(
        f"no data of benchmark {name} in {root}: expected {'; '.join(dict.fromkeys(wanted))}. "
        + "".join(dict.fromkeys(faults))
        + "".join(f"The folder itself could be {one}: if it is, say so with --part {one}. " for one in alike)
        + "`limnet data list` tells how to get them, `limnet data check` what a folder lacks"
    )


def opened(root: Path, part: Part, asked: bool = False) -> tuple[LabelledDataset | None, LimnetError | None]:
    """The data set in one of its folders or in the root itself (if `asked` for by name, see `Part.common`).

    Or what is wrong with the first folder of its name that is there; (None, None) without one.
    """
    cls, faults = dataset_class(part.dataset), []
    itself = asked or not part.common or root.resolve().name in part.folders
    for folder in (*(root / name for name in part.folders), *([root] if itself else [])):
        if folder.is_dir():
            try:
                return cls(folder, **part.options), None
            except (MissingFileError, FileFormatError) as error:
                # The root holds all sets: that it is not this one itself is no fault.
                if folder != root or root.resolve().name in part.folders or isinstance(error, FileFormatError):
                    faults.append(error)
    return None, faults[0] if faults else None


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


def sequence_and_class(case: str, label: str) -> str:
    """Column of a class in a sequence, such as "seq 1 clips"; other classes keep their name."""
    number = re.search(r"seq[-_ ]?(\d+)", case)
    short = next((column for part, column in CLASSES.items() if part in label.lower()), label)
    return f"seq {number[1] if number else case} {short}"


table1 = partial(join, "table1", "Table I: KiTS19, MSD lung and colon", parts=TABLE1)
"""KiTS19 (Mem3D's 42 cases), MSD lung and colon (held-out labelled cases), six rounds."""

table2 = partial(join, "table2", "Table II: with and without fusion", parts=TABLE1, variants=FUSION, note=WITHOUT)

figure3 = partial(
    join,
    "figure3",
    "Figure 3: Dice over ten rounds, with and without fusion",
    parts=TABLE1,
    rounds=RobotRounds(10),  # the paper speaks of more than seven and prints no number
    variants=FUSION,
    note=f"{WITHOUT} The published rows are Table II's, after six rounds.",
    published="table2",
)

# The models were not trained on these data sets.
table4 = partial(join, "table4", "Table IV: BTCV", parts=TABLE4)
table5 = partial(join, "table5", "Table V: MSD pancreas tumour and colon cancer", parts=TABLE5)
table6 = partial(
    join,
    "table6",
    "Table VI: EndoVis18 test sequences",
    parts=TABLE6,  # a class of a sequence is one object, frames are slices
    group=sequence_and_class,
    note="Dice is that of a whole sequence; per slice: the mean over the frames that show the class.",
)
