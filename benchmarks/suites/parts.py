"""Suites over one or several data sets that lie side by side in one folder."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.core.published import published_names
from benchmarks.core.rounds import RobotRounds
from benchmarks.core.suite import Grouping, Suite, SuiteOptions
from limnet.data.dataset import LabelledCase, LabelledDataset
from limnet.data.objects import ObjectChoice
from limnet.datasets.registry import dataset_class
from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError


@dataclass(frozen=True)
class Part:
    """A split of one data set.

    Attributes:
        dataset: its name in `limnet.datasets.registry`.
        folders: names under which it may lie in the root.
        split: the split that is reported.
        merge: objects by label ids, see `ObjectChoice`; None takes every label.
        common: other folders are laid out like it too (images beside masks), so that the root itself is taken for it
            by its name alone, or where the part is asked for.
        cases: published number of cases of that split, if it is known.
        options: arguments of the data set besides its folder.
    """

    dataset: str
    folders: tuple[str, ...]
    split: str
    merge: Mapping[str, tuple[int, ...]] | None = None
    common: bool = False
    cases: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


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
    """A suite of all parts that are there; one whose folder cannot be used is told in a warning and in the note.

    limnet models run the method of the paper, whatever settings they come with, unless the options say otherwise.
    Whole labels are objects, however small; slices along axis 0; six rounds by default. `published` is by default the
    table of the suite's name. For the rest see `Suite`.

    Raises:
        MissingFileError: none of them is there, or can be used.
        InputError: a data set has no such split, or the suite no such part.
    """
    base = options.chosen(ObjectChoice(smallest=1, components=()))
    choices: dict[str, ObjectChoice] = {}
    cases: list[LabelledCase] = []
    absent: list[Part] = []
    faults: dict[str, LimnetError] = {}
    fewer: list[str] = []
    taken = chosen_parts(name, options, {part.dataset: part for part in parts})
    for part in taken.values():
        found, fault = _opened(root, part)
        if found is None:
            absent.append(part)
            if fault is not None:
                faults[part.dataset] = fault
            continue
        split = options.split or part.split
        if split not in found.splits:
            raise InputError(f"{found.title} has no split {split!r}; there are {', '.join(found.splits)}")
        whole = found.cases(split)
        mine = whole[: options.per_group]
        if part.cases is not None and split == part.split and len(whole) < part.cases:
            fewer.append(f"{part.dataset} {len(whole)} of {part.cases}")
        cases += mine
        choices |= {case.name: dataclasses.replace(base, merge=part.merge) for case in mine}
    if len(absent) == len(taken):
        raise no_data(name, root, absent)
    for part_name, fault in faults.items():
        _warn(part_name, fault)
    lacking = ", ".join(part.dataset for part in absent if part.dataset not in faults)
    missing = f"Not measured, for lack of data: {lacking}." if lacking else ""
    broken = f"Not measured, as their folders cannot be used: {', '.join(faults)}." if faults else ""
    return Suite(
        name="-".join([name, *options.parts]),
        title=title,
        cases=cases,
        rounds=options.played(rounds or RobotRounds()),
        choice=base,
        group=group,
        choices=choices,
        parts={part.dataset: [options.split or part.split, part.merge, dict(part.options)] for part in parts},
        variants=variants,
        method="paper",
        published=published or (name if name in published_names() else None),
        note=" ".join(text for text in (note, told_fewer(fewer), missing, broken) if text),
    )


def told_fewer(fewer: Sequence[str]) -> str:
    """The sentence on data sets that lack cases, "" where none does; entries are such as "kits19 41 of 42"."""
    return f"Cases that are there, of those published: {', '.join(fewer)}." if fewer else ""


def chosen_parts(name: str, options: SuiteOptions, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parts of a suite (by name) that the options ask for; all of them by default."""
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        raise InputError(f"benchmark {name} has no part {unknown[0]!r}; its parts are {', '.join(parts)}")
    return {key: part for key, part in parts.items() if not options.parts or key in options.parts}


def no_data(name: str, root: Path, parts: Sequence[Part]) -> MissingFileError:
    """The error of a suite of which no part is there; tells what is wrong with the folders that are."""
    wanted = "; ".join(f"{part.dataset} in {' or '.join(part.folders)}" for part in parts)
    faults = [f"{part.dataset} cannot be used: {fault}" for part in parts if (fault := _opened(root, part)[1])]
    alike = [part.dataset for part in parts if part.common and _opened(root, part, asked=True)[0] is not None]
    return MissingFileError(
        f"no data of benchmark {name} in {root}: expected {wanted}. "
        + "".join(f"{fault}. " for fault in faults)
        + "".join(f"The folder itself could be {one}: if it is, say so with --part {one}. " for one in alike)
        + "`limnet data list` tells how to get them, `limnet data check` what a folder lacks"
    )


def find_part(root: Path, part: Part, asked: bool = False) -> LabelledDataset | None:
    """The data set in one of its folders or in the root itself (if `asked` for by name, see `Part.common`), or None.

    A folder of its name that cannot be used, as files are missing or damaged, is told in a warning.
    """
    found, fault = _opened(root, part, asked)
    if fault is not None:
        _warn(part.dataset, fault)
    return found


def _opened(root: Path, part: Part, asked: bool = False) -> tuple[LabelledDataset | None, LimnetError | None]:
    """The data set, or what is wrong with the first folder of its name that is there; (None, None) without one."""
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


def _warn(name: str, fault: LimnetError) -> None:
    warnings.warn(f"{name} is not measured, its folder cannot be used: {fault}")
