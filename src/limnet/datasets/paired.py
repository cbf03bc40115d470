"""Data sets in which every case is an image file and a label file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.datasets.base import LabelledDataset, Problem
from limnet.datasets.files import PICTURES, image_suffix, read_image_file, read_label_file
from limnet.datasets.labelled import LabelledCase
from limnet.errors import LimnetError, MissingFileError
from limnet.volume import Volume


@dataclass(frozen=True)
class Pair:
    """Where a case comes from.

    Attributes:
        name: of the case.
        patient: id for splits.
        image: image file.
        label: label file.
        modality: one of `limnet.datasets.labelled.MODALITIES`.
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


class PairedDataset(LabelledDataset):
    """Base of data sets made of file pairs; `find` of a subclass fills `pairs`."""

    pairs: list[Pair]

    def all_cases(self) -> list[LabelledCase]:
        """A case for each pair, in the order of the pairs."""
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


def shortened(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _rounded(spacing: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(s, 4) for s in spacing)
