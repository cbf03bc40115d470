"""Data sets in which every case is an image file and a label file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem
from limnet.datasets.files import image_suffix, read_image_file, read_label_file
from limnet.errors import LimnetError, MissingFileError
from limnet.image.io.pictures import PICTURES
from limnet.image.volume import Volume


@dataclass(frozen=True)
class Pair:
    """Where a case comes from.

    Attributes:
        name: of the case.
        patient: id for splits.
        image: image file.
        label: label file.
        modality: one of `limnet.data.dataset.MODALITIES`.
        channel: which volume of a 4-D image file, if it is one.
        labels: ids -> names.
        ignored: ids to read as background.
    """

    name: str
    patient: str
    image: Path
    label: Path
    modality: str = "other"
    channel: int | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()

    @property
    def absent(self) -> list[Path]:
        """Those of the two files that are not there."""
        return [path for path in (self.image, self.label) if not path.is_file()]


class PairedDataset(LabelledDataset):
    """Base of data sets made of file pairs; `find` of a subclass fills `pairs`.

    Attributes:
        pairs: what the cases are made of.
        incomplete: pairs of which a file is missing: no cases, but told by `check` and in a warning.
    """

    pairs: list[Pair]
    incomplete: Sequence[Pair] = ()
    _told = False

    def keep_complete(self, pairs: Sequence[Pair], source: Path) -> None:
        """Divide pairs into `pairs` and `incomplete` by whether both files are there.

        Args:
            pairs: all that should be there.
            source: the file or folder that lists them, for the message.

        Raises:
            MissingFileError: not one pair is complete.
        """
        found: dict[bool, list[Pair]] = {True: [], False: []}
        for pair in pairs:
            found[not pair.absent].append(pair)
        self.pairs, self.incomplete = found[True], found[False]
        if not self.pairs:
            absent = [str(path) for pair in pairs for path in pair.absent]
            raise MissingFileError(
                f"none of the {len(pairs)} case(s) of {source} has both files; not there are {shortened(absent)}. "
                "Unpack the archive again, or correct the list"
            )

    def all_cases(self) -> list[LabelledCase]:
        """A case for each complete pair, in the order of the pairs; warns once if there are incomplete ones."""
        if self.incomplete and not self._told:
            self._told = True
            warn_left_out([pair.name for pair in self.incomplete], len(self.pairs) + len(self.incomplete), self.root)
        return [
            LabelledCase(
                name=pair.name,
                patient=pair.patient,
                modality=pair.modality,
                labels=pair.labels,
                read_image=partial(read_image, pair.image, pair.channel, pair.modality),
                read_labels=partial(read_labels, pair.label, pair.ignored),
            )
            for pair in self.pairs
        ]

    def check(self) -> list[Problem]:
        """Files that are missing, then the general checks."""
        self._told = True  # the problems say it
        problems = []
        for pair in self.incomplete:
            names = " and ".join(self._short(path) for path in pair.absent)
            what = f"left out, as {names} {'are' if len(pair.absent) > 1 else 'is'} not there"
            problems.append(Problem(pair.name, what, "copy it again, or take the case out of the data set"))
        return problems + super().check()

    def in_no_list(self, lists: str) -> list[Problem]:
        """A problem where cases are in no list of the split.

        Args:
            lists: file with the lists.
        """
        lone = [case.name for case in self.all_cases() if self.split_of(case) is None]
        if not lone:
            return []
        what = f"{len(lone)} case(s) are in no list of {lists} and are not used: {shortened(lone)}"
        return [Problem("", what, "add them to a list, or take them out")]

    def _short(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Shapes and ids, and that image and labels lie on the same grid in space."""
        problems = super().check_case(case)
        pair = next((p for p in self.pairs if p.name == case.name), None)
        if pair is None or problems or {image_suffix(pair.image), image_suffix(pair.label)} & {*PICTURES, ".npz"}:
            return problems
        try:
            image, label = read_image_file(pair.image, pair.channel), read_image_file(pair.label)
        except LimnetError:
            return problems
        if not np.allclose(image.affine_in("RAS"), label.affine_in("RAS"), atol=1e-2 * min(image.spacing)):
            what = (
                f"{pair.image.name} and {pair.label.name} have the same shape but other grids: spacing "
                f"{_rounded(image.spacing)} and {_rounded(label.spacing)} mm, or other origins or directions"
            )
            problems.append(Problem(case.name, what, "resample one onto the other, or copy the right header"))
        return problems


def read_image(path: Path, channel: int | None, modality: str) -> Volume:
    """Image of a pair."""
    return read_image_file(path, channel, modality.upper() if modality in ("ct", "mr", "us") else None)


def read_labels(path: Path, ignored: tuple[int, ...]) -> NDArray[Any]:
    """Labels of a pair, ignored ids as background."""
    labels = read_label_file(path)
    return np.where(np.isin(labels, ignored), 0, labels).astype(labels.dtype) if ignored else labels


def require_files(paths: Iterable[Path], listed_in: Path) -> None:
    """Raise MissingFileError that names the files which are listed but not there."""
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise MissingFileError(
            f"{len(absent)} file(s) listed in {listed_in} are not there: {shortened(str(p) for p in absent)}. "
            "Unpack the archive again, or take them out of the list"
        )


def warn_left_out(names: Sequence[str], number: int, root: Path) -> None:
    """Warn of cases that are no cases for lack of a file.

    Args:
        names: of the cases.
        number: of all cases, these included.
        root: folder of the data set.
    """
    warnings.warn(
        f"{len(names)} of {number} cases in {root} lack their image or labels and are left out: {shortened(names)}. "
        "Complete them; limnet data check names the files"
    )


def fit_name(stem: str) -> str:
    """A name for the case: no folders, no characters that are awkward in file names."""
    name = re.sub(r"[^\w.+=@-]", "_", stem.replace("/", "__"))
    return name if name[:1].isalnum() or name.startswith("_") else f"_{name}"


def shortened(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _rounded(spacing: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(s, 4) for s in spacing)
