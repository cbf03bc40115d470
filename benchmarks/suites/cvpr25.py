"""The CVPR 2025 challenge on interactive 3D segmentation: a box, then five clicks for every object."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from benchmarks.core.challenge_rounds import CLICKS, ChallengeRounds
from benchmarks.core.suite import Suite, SuiteOptions
from limnet.datasets.cvpr25 import Cvpr25Dataset
from limnet.datasets.objects import ObjectChoice
from limnet.datasets.registry import open_dataset, parse_options
from limnet.errors import InputError

NOTE = (
    "Boxes are those of the files; a method that takes no box begins with the first click. Clicks follow the rule of "
    "the challenge's evaluation script. Its limit of 90 s per object "
    "is not enforced, and the model stays loaded between steps."
)


def build(root: Path, options: SuiteOptions) -> Suite:
    """The validation files, or those of another split; groups are the modalities of the file names.

    Args:
        root: folder of the data set.
        options: `dataset` may give arguments of its class, as "cvpr25:spacing_order=xyz".

    Raises:
        InputError: another data set, an option that it does not have, or one that the protocol leaves no room for.
        MissingFileError: the folder is not this data set.
    """
    if options.jitter is not None or options.seed is not None:
        raise InputError("benchmark cvpr25 clicks by a fixed rule; leave --jitter and --seed out")
    name, given = parse_options(options.dataset or "cvpr25")
    if name != "cvpr25":
        raise InputError(
            f"benchmark cvpr25 was given the data set {name!r}; it reads cvpr25 alone, such as --name "
            "cvpr25:spacing_order=xyz. Others are run by limnet bench dataset"
        )
    dataset = cast(Cvpr25Dataset, open_dataset(name, root, **given))
    seen: dict[str, int] = {}
    cases, groups = [], {}
    for case in dataset.cases(options.split or "val"):
        group = case.name.split("_")[0]
        seen[group] = seen.get(group, 0) + 1
        if options.per_group is None or seen[group] <= options.per_group:
            cases.append(case)
            groups[case.name] = group
    clicks = options.rounds or CLICKS
    nsd_mm = ChallengeRounds.nsd_mm if options.nsd_mm is None else options.nsd_mm
    rounds = ChallengeRounds(clicks, nsd_mm, files={case.name: dataset.image_file(case) for case in cases})
    return Suite(
        name="cvpr25",
        title="CVPR 2025 interactive segmentation",
        cases=cases,
        rounds=rounds,
        choice=options.chosen(ObjectChoice(smallest=1, components=())),
        group=partial(_group, groups),
        parts={name: given} if given else {},
        scores="challenge" if clicks == CLICKS else None,
        note=NOTE if clicks == CLICKS else f"{NOTE} Scores of the challenge need {CLICKS} clicks.",
    )


def _group(groups: dict[str, str], case: str, label: str) -> str:
    return groups[case]
