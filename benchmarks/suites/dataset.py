"""Any data set that limnet reads: every label of its held-out cases; and the user's own folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.core.objects import ObjectChoice
from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Suite, SuiteOptions
from limnet.data.dataset import InstanceNames, LabelledCase, LabelledDataset
from limnet.datasets.registry import dataset_names, open_dataset, parse_options
from limnet.errors import InputError

ANY_AXIS = ("folder", "nnunet", "decathlon")
"""Data sets of no known orientation: slices lie along the thickest axis."""


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


def kind_of(kinds: frozenset[str], case: str, label: str) -> str:
    """Group of a label: "log" for "log 3" where log is one of `kinds`, the label itself otherwise."""
    kind, _, number = label.rpartition(" ")
    return kind if kind in kinds and number.isdigit() else label


def _held_out(dataset: LabelledDataset, split: str | None) -> tuple[str, Sequence[LabelledCase]]:
    if split is not None:
        return split, dataset.cases(split)
    for held in ("test", "val"):
        if held in dataset.splits and (cases := dataset.cases(held)):
            return held, cases
    raise InputError(f"{dataset.title} in {dataset.root} holds no case out; name another split with --split")
