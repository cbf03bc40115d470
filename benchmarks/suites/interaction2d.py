"""The click network alone on pictures: clicks until an IoU of .85 and .90 is reached (NoC), as RITM counts them.

GrabCut, Berkeley, SBD, DAVIS (345 frames), and DAVIS-585 in its three modes: from nothing ("zero"), from a superpixel
mask ("sp", FocalClick's "from init") and from a video network's mask ("stm"). Pixels that GrabCut and Berkeley leave
undecided (128) are neither clicked nor scored.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.click_predictor import ClickPredictor
from benchmarks.core.click_rounds import ClickRounds, Read
from benchmarks.core.suite import Suite, SuiteOptions
from benchmarks.suites.parts import Part, chosen_parts, find_part, no_data, told_fewer
from limnet.datasets import berkeley, davis345, davis585, grabcut
from limnet.datasets.base import LabelledDataset
from limnet.datasets.davis585 import Davis585Dataset
from limnet.datasets.grabcut import BAND
from limnet.datasets.labelled import LabelledCase
from limnet.datasets.objects import ObjectChoice
from limnet.datasets.pictures import PictureSet, brightness
from limnet.errors import InputError

NAME = "interaction2d"
BANDED = ("grabcut", "berkeley")  # data sets with undecided pixels
ZOOMS = {"davis345": 600}  # RITM's evaluation zooms to 400 pixels, on DAVIS to 600
NOTE = (
    "Clicks by RITM's rule; at most {clicks} an object, which ends at an IoU of {target:g}. A model that "
    "was trained on one of these sets (mix paper-stage1 holds DAVIS-585) has seen its pictures."
)


class Source(NamedTuple):
    """One column of the table.

    Attributes:
        group: its head.
        part: the data set.
        mode: what DAVIS-585 starts from.
    """

    group: str
    part: Part
    mode: str = "zero"


_DAVIS585 = Part("davis585", ("DAVIS585", "DAVIS-585", "davis585"), "all", cases=davis585.OBJECTS)
SOURCES: dict[str, Source] = {
    "grabcut": Source("GrabCut", Part("grabcut", ("GrabCut", "grabcut"), "test", cases=grabcut.OBJECTS)),
    "berkeley": Source(
        "Berkeley", Part("berkeley", ("Berkeley", "berkeley"), "test", common=True, cases=berkeley.OBJECTS)
    ),
    "sbd": Source("SBD", Part("sbd", ("SBD", "sbd", "benchmark_RELEASE"), "val", cases=2857)),
    "davis345": Source(
        "DAVIS", Part("davis345", ("DAVIS", "DAVIS345", "davis345"), "test", common=True, cases=davis345.OBJECTS)
    ),
    "davis585-zero": Source("DAVIS-585 zero", _DAVIS585),
    "davis585-sp": Source("DAVIS-585 sp", _DAVIS585, "sp"),
    "davis585-stm": Source("DAVIS-585 stm", _DAVIS585, "stm"),
}


def build(root: Path, options: SuiteOptions) -> Suite:
    """All objects of all sets that are there; case names begin with the name of their part.

    Raises:
        InputError: an option that the protocol leaves no room for.
        MissingFileError: none of the sets is there.
    """
    if any(value is not None for value in (options.nsd_mm, options.jitter, options.seed)) or options.axis:
        raise InputError(
            f"{NAME} follows a fixed rule on single pictures; leave --nsd, --jitter, --seed and --axis out"
        )
    cases: list[LabelledCase] = []
    absent: list[Source] = []
    fewer: list[str] = []
    starts: dict[str, Read] = {}
    voids: dict[str, Read] = {}
    for name, source in chosen_parts(NAME, options, SOURCES).items():
        dataset = find_part(root, source.part, name in options.parts)
        if dataset is None:
            absent.append(source)
            continue
        bands = _bands(dataset) if source.part.dataset in BANDED else {}
        split = options.split or source.part.split
        found = dataset.all_cases() if split == "all" else dataset.cases(split)
        if source.part.cases and split == source.part.split and len(found) < source.part.cases:
            fewer.append(f"{source.group} {len(found)} of {source.part.cases}")
        for case in found[: options.per_group]:
            named = dataclasses.replace(case, name=f"{name}_{case.name}")
            cases.append(named)
            if case.name in bands:
                voids[named.name] = bands[case.name]
            if source.mode != "zero" and isinstance(dataset, Davis585Dataset):
                starts[named.name] = partial(read_start, dataset, case, source.mode)
    if not cases and absent:
        raise no_data(NAME, root, list(dict.fromkeys(source.part for source in absent)))
    target = ClickRounds.target if options.target is None else options.target
    rounds = ClickRounds(options.rounds or 20, target, starts, voids)
    note = NOTE.format(clicks=rounds.clicks, target=rounds.target)
    missing = f"Not measured, for lack of data: {', '.join(source.group for source in absent)}." if absent else ""
    return Suite(
        name="-".join([NAME, *options.parts]),
        title="Clicks to an IoU on pictures",
        cases=cases,
        rounds=rounds,
        choice=options.chosen(ObjectChoice(smallest=1, components=())),
        group=group_of,
        parts={name: [options.split or source.part.split, source.mode] for name, source in SOURCES.items()},
        limnet=partial(ClickPredictor, way=options.way or "auto", zooms=ZOOMS),
        scores="clicks",
        note=" ".join(text for text in (note, told_fewer(fewer), missing) if text),
    )


def group_of(case: str, label: str) -> str:
    """Column of a case."""
    return SOURCES[case.split("_")[0]].group


def read_band(path: Path) -> NDArray[np.bool_]:
    """Pixels of a mask file that nobody decided, (1, H, W)."""
    return (brightness(path) == BAND)[None]


def read_start(dataset: Davis585Dataset, case: LabelledCase, mode: str) -> NDArray[np.bool_]:
    """The mask a case of DAVIS-585 starts from, (1, H, W)."""
    return dataset.initial(case, mode) > 0


def _bands(dataset: LabelledDataset) -> dict[str, Any]:
    pictures = dataset.pictures() if isinstance(dataset, PictureSet) else []
    return {picture.name: partial(read_band, picture.masks[0]) for picture in pictures}
