"""Slices with object, as Table III of the LIM-Net paper counts its data sets: whether your data are the paper's."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limnet.data.dataset import InstanceNames
from limnet.errors import LimnetError

if TYPE_CHECKING:
    from limnet.data.dataset import LabelledCase, LabelledDataset

PAPER: dict[tuple[str, str | None], dict[str, int]] = {
    ("ishape", None): {"train": 10_185, "val": 2_685},
    ("amos22-ct", None): {"train": 6_263, "val": 253},
    ("msd-colon", "mem3d"): {"train": 1_034, "val": 251},
    ("msd-lung", None): {"train": 1_140, "val": 517},
    ("kits19", None): {"train": 14_072, "val": 1_753},
    ("coco-lvis", None): {"train": 99_354, "val": 4_751},
    ("davis585", "paper"): {"train": 585, "test": 585},
    ("btcv", "transunet"): {"train": 2_210},  # it tests on these, see `benchmarks.suites.table4`
    ("endovis18", "scene"): {"test": 4_621},
}
"""(data set, protocol) -> split here -> number in Table III, whatever the paper calls the split."""


class SliceCounts(NamedTuple):
    """What a split holds.

    Attributes:
        slices: of the cases that were read; pictures where a case repeats one picture for its layers.
        filled: those that hold an object.
        labels: name of a label -> slices that hold it or what is part of it; empty for numbered instances.
        unread: name of a case -> why it could not be read.
    """

    cases: int
    slices: int
    filled: int
    labels: dict[str, int]
    unread: dict[str, str]


def count_slices(dataset: LabelledDataset, split: str) -> SliceCounts:
    """Read the labels of every case of a split, not the images, and count slices."""
    cases = slices = filled = 0
    labels: Counter[str] = Counter()
    unread: dict[str, str] = {}
    for case in dataset.cases(split):
        try:
            found = np.asarray(case.read_labels())
            planes = [set(np.flatnonzero(np.bincount(plane.ravel())).tolist()) - {0} for plane in found]
        except (LimnetError, OSError, ValueError, TypeError) as error:
            unread[case.name] = str(error)
            continue
        if dataset.layered:
            planes = [set().union(*planes)]
        cases, slices, filled = cases + 1, slices + len(planes), filled + sum(map(bool, planes))
        labels.update(_by_label(case, planes))
    return SliceCounts(cases, slices, filled, dict(labels), unread)


def _by_label(case: LabelledCase, planes: list[set[int]]) -> dict[str, int]:
    if isinstance(case.labels, InstanceNames):
        return {}
    return {
        name: number
        for i, name in case.labels.items()
        if (number := sum(not plane.isdisjoint((i, *case.includes.get(i, ()))) for plane in planes))
    }
