"""Own data: every labelled image of a folder."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Suite, SuiteOptions
from limnet.data.objects import ObjectChoice
from limnet.datasets.registry import open_dataset


def build(root: Path, options: SuiteOptions) -> Suite:
    """All cases of the folder, or those of a split; every label is a group, slices along the thickest axis."""
    dataset = open_dataset("folder", root)
    cases = dataset.all_cases() if options.split is None else dataset.cases(options.split)
    cases = cases[: options.per_group]  # all are one group of the data set
    return Suite(
        name="folder",
        title=f"Folder {root.name}",
        cases=cases,
        rounds=options.played(RobotRounds()),
        choice=options.chosen(ObjectChoice(smallest=1, axis=None)),
    )
