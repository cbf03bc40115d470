"""Suites over one or several data sets that lie side by side in one folder."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.core.published import published_names
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


class Found(NamedTuple):
    """A part that is there, under its name in the suite, with the cases that the options ask for."""

    name: str
    part: Part
    dataset: LabelledDataset
    cases: list[LabelledCase]


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
    choices = {case.name: dataclasses.replace(base, merge=one.part.merge) for one in found for case in one.cases}
    return Suite(
        name="-".join([name, *options.parts]),
        title=title,
        cases=[case for one in found for case in one.cases],
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
    """The parts of a suite that the options ask for and that are there, and what a reader must know of the others.

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
            found.append(Found(key, part, dataset, cases[: options.per_group]))
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
