"""Any data set that limnet reads: every label of its held-out cases; the user's own folder; the open volumes.

Of the open volumes (a folder with manifest.json) objects are those of at least 300 voxels, lesions and nodules one by
one, slices along axis 0. Images are handed over without their modality: methods see what a plain array would tell them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import ObjectChoice, Suite, SuiteOptions
from limnet.data.dataset import InstanceNames, LabelledCase, LabelledDataset
from limnet.data.files import read_image, read_labels
from limnet.datasets.open import read_manifest
from limnet.datasets.registry import dataset_names, open_dataset, parse_options
from limnet.errors import InputError

ANY_AXIS = ("folder", "nnunet", "decathlon")
"""Data sets of no known orientation: slices lie along the thickest axis."""

OPEN_GROUPS = {
    "organs and bones, CT": ("ts_ct", "dcmqi"),
    "organs, MR": ("ts_mr", "spinegeneric", "sct_"),
    "nodules, CT": ("lidc",),
    "lesions, brain MR": ("openms",),
    "structures, brain MR": ("vxm", "mni152", "ch2", "inia19"),
    "microscopy": ("micro/",),
}
SINGLE = "2d/"  # in the name of open files of one slice


def build(root: Path, options: SuiteOptions) -> Suite:
    """The cases of "test", or of "val" where there are none, or those of another split.

    Every label is an object, lesions and nodules one by one. Groups are the names of the labels; objects that are only
    numbered ("log 3") are together in one ("log"). Slices lie along axis 0, or along the thickest axis in data sets
    of no known orientation. `options.dataset` is the name, with arguments of its class behind a colon.
    """
    if options.dataset is None:
        raise InputError(f"say which data set lies in {root}: --name with one of {', '.join(dataset_names())}")
    if options.parts:
        raise InputError("benchmark dataset takes one data set, named by --name; leave --part out")
    name, given = parse_options(options.dataset)
    dataset = open_dataset(name, root, **given)
    split, cases = _held_out(dataset, options.split)
    kinds = {kind for case in cases if isinstance(case.labels, InstanceNames) for kind, _, _ in case.labels.runs}
    return Suite(
        name=f"dataset-{name}",
        title=f"{dataset.title}, {split}",
        cases=cases[: options.per_group],
        rounds=options.played(RobotRounds()),
        choice=options.chosen(ObjectChoice(smallest=1, axis=None if name in ANY_AXIS else 0)),
        group=partial(kind_of, frozenset(kinds)),
        parts={name: [split, given]},
        layered=dataset.layered,
    )


def build_folder(root: Path, options: SuiteOptions) -> Suite:
    """All cases of a folder, or those of a split; every label is a group, slices along the thickest axis."""
    dataset = open_dataset("folder", root)
    cases = dataset.all_cases() if options.split is None else dataset.cases(options.split)
    return Suite(
        name="folder",
        title=f"Folder {root.name}",
        cases=cases[: options.per_group],  # all are one group of the data set
        rounds=options.played(RobotRounds()),
        choice=options.chosen(ObjectChoice(smallest=1, axis=None)),
    )


def build_open(root: Path, options: SuiteOptions) -> Suite:
    """The open validation volumes, or those of another split, without single slices."""
    split = options.split or "val"
    if split not in ("train", "val"):
        raise InputError(f"the open volumes have the splits train and val; got {split!r}")
    cases: list[LabelledCase] = []
    groups: list[str] = []
    for entry in read_manifest(root):
        file = entry["file"]
        if file.startswith(split + "/") and SINGLE not in file and entry["kind"] != "labels-only":
            cases.append(_open_case(root / file, entry))
            groups.append(open_group(file, entry.get("set")))
    return Suite(
        name="open",
        title=f"Open volumes, {split}",
        cases=options.few_of_groups(cases, groups),
        rounds=options.played(RobotRounds()),
        choice=options.chosen(ObjectChoice()),
        group=partial(_of_case, dict(zip((case.name for case in cases), groups, strict=True))),
    )


def kind_of(kinds: frozenset[str], case: str, label: str) -> str:
    """Group of a label: "log" for "log 3" where log is one of `kinds`, the label itself otherwise."""
    kind, _, number = label.rpartition(" ")
    return kind if kind in kinds and number.isdigit() else label


def open_group(file: str, collection: str | None = None) -> str:
    """Group of a file of the manifest; the set it comes from, where the manifest names one."""
    return collection or next(
        (group for group, parts in OPEN_GROUPS.items() if any(part in file for part in parts)), "other"
    )


def _of_case(groups: dict[str, str], case: str, label: str) -> str:
    return groups[case]


def _open_case(path: Path, entry: dict[str, Any]) -> LabelledCase:
    labels = {int(i): n for i, n in (entry.get("labels") or {}).items()}
    return LabelledCase(path.stem, path.stem, "other", labels, partial(read_image, path), partial(read_labels, path))


def _held_out(dataset: LabelledDataset, split: str | None) -> tuple[str, Sequence[LabelledCase]]:
    if split is not None:
        return split, dataset.cases(split)
    for held in ("test", "val"):
        if held in dataset.splits and (cases := dataset.cases(held)):
            return held, cases
    raise InputError(f"{dataset.title} in {dataset.root} holds no case out; name another split with --split")
