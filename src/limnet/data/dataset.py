"""LabelledCase, an image with its labels, read when asked; LabelledDataset, a data set as its owner ships it.

Where no split is published they go by patient, from a stable hash: the same on every machine, whatever else lies in the
folder.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limnet.data.files import shortened
from limnet.errors import InputError, LimnetError, MissingFileError
from limnet.image.volume import Volume

MODALITIES = ("ct", "mr", "us", "photo", "endoscopy", "video", "microscopy", "other")
FEW = 40  # patients; with fewer the sizes of the splits are exact


@dataclass(frozen=True)
class LabelledCase:
    """One labelled image, read lazily: nothing big is held, both callables read from disk each time.

    The callables are `functools.partial` of module-level functions over paths and plain values, so that a case can be
    sent to another process and its cached copy be found again (`limnet.data.cache` keys by the function, its
    arguments, and size and time of every file among them).

    Attributes:
        name: unique within the data set and fit for a file name, such as "case_00012".
        patient: splits never separate slices or series of one patient.
        modality: one of `MODALITIES`.
        labels: label ids -> names; background (0) left out. Empty where the data set does not name them.
        read_image: returns the image, (D, H, W) or (D, H, W, 3).
        read_labels: returns integers (D, H, W) on the image's grid.
        window: customary display window (lo, hi) in raw units, if there is one.
        cached: whether training keeps a decoded copy on disk; False where a case is one small picture.
        includes: label -> other labels that are part of its object, such as a tumour of its kidney.

    Raises:
        InputError: a name that is no file name, an unknown modality, or a label 0.
    """

    name: str
    patient: str
    modality: str
    labels: Mapping[int, str]
    read_image: Callable[[], Volume]
    read_labels: Callable[[], np.ndarray]
    window: tuple[float, float] | None = None
    cached: bool = True
    includes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.+=@-]*", self.name):
            raise InputError(f"case name {self.name!r}: use letters, digits and . _ - + = @ only, such as case_00012")
        if self.modality not in MODALITIES:
            raise InputError(f"case {self.name} has modality {self.modality!r}; allowed are {', '.join(MODALITIES)}")
        if 0 in self.labels:
            raise InputError(f"case {self.name} names label 0; that is the background and has no entry")


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set on disk.

    Attributes:
        case: name of the case or file, or "" for the whole.
        what: what is wrong.
        advice: what to do.
    """

    case: str
    what: str
    advice: str


def numbered(names: str) -> dict[int, str]:
    """Label ids from 1 on -> names, which come as "liver, spleen"."""
    return dict(enumerate(names.split(", "), 1))


class InstanceNames(Mapping[int, str]):
    """Label ids -> "<kind> <number>" for data sets that tell objects apart but do not say how many there are.

    Args:
        runs: (kind, first id, last id), in ascending order; numbers of a kind start at 1.
    """

    __slots__ = ("runs",)

    def __init__(self, *runs: tuple[str, int, int]) -> None:
        self.runs = runs

    def __getitem__(self, label: int) -> str:
        for kind, first, last in self.runs:
            if first <= label <= last:
                return f"{kind} {label - first + 1}"
        raise KeyError(label)

    def __contains__(self, label: object) -> bool:
        return isinstance(label, int) and any(first <= label <= last for _, first, last in self.runs)

    def __iter__(self) -> Iterator[int]:
        for _, first, last in self.runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for _, first, last in self.runs)

    def __repr__(self) -> str:
        return f"InstanceNames{self.runs}"


class _Folder:
    """A field that takes a path or its text and gives the path."""

    def __get__(self, instance: LabelledDataset | None, owner: type) -> Path:
        if instance is None:
            raise AttributeError("root")  # so that dataclasses see no default
        return instance.__dict__["root"]

    def __set__(self, instance: LabelledDataset, value: Path | str) -> None:
        instance.__dict__["root"] = Path(value)


@dataclass(eq=False, repr=False)
class LabelledDataset(ABC):
    """A folder of labelled images, read where it lies and never changed.

    A subclass sets the class attributes, looks for its files in `find` and lists them in `all_cases`. Where a split has
    been published it overrides `split_of`; otherwise patients are assigned by a stable hash. Options of its own are
    further fields of a dataclass.

    Args:
        root: the folder, a path or its text.
        fraction: share of patients held out for each split but "train", where no split is published.
        seed: of that assignment.

    Attributes:
        title: name of the data set.
        licence: of its files.
        access: how to get it, with an address.
        layout: of its folder, as messages show it.
        splits: names of its splits, "train" first.
        layered: whether a case repeats one picture, once for each layer of objects: no volume to propagate through.
        choices: option -> its allowed values.

    Raises:
        InputError: an option that is not among its choices.
        MissingFileError: the folder does not look like this data set; the message shows the expected layout.
        FileFormatError: a list or table of the data set that is damaged or of another form.
    """

    title: ClassVar[str]
    licence: ClassVar[str]
    access: ClassVar[str]
    layout: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    layered: ClassVar[bool] = False
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    root: _Folder = _Folder()
    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for option, allowed in self.choices.items():
            if (value := getattr(self, option)) not in allowed:
                raise InputError(f"{option} is {value!r}; allowed are {', '.join(map(str, allowed))}")
        if not self.root.is_dir():
            raise self.missing(f"{self.root} is no folder")
        self.find()

    @abstractmethod
    def find(self) -> None:
        """Look whether the folder is this data set, without reading images; called once by the constructor.

        Raises:
            MissingFileError: it is not: `raise self.missing("there is no imagesTr in ...")`.
        """

    @abstractmethod
    def all_cases(self) -> list[LabelledCase]:
        """Every labelled case in a fixed order, without reading images."""

    def split_of(self, case: LabelledCase) -> str | None:
        """Name of the published split of a case, None to leave it out. Not called unless a subclass overrides it."""
        raise NotImplementedError

    def cases(self, split: str) -> list[LabelledCase]:
        """Cases of a split: the published one where there is one, else by a stable hash of the patient's id.

        Raises:
            InputError: no split of that name.
        """
        if split not in self.splits:
            raise InputError(f"{self.title} has no split {split!r}; there are {', '.join(self.splits)}")
        found = self.all_cases()
        if type(self).split_of is not LabelledDataset.split_of:
            return [case for case in found if self.split_of(case) == split]
        place = split_patients((case.patient for case in found), self.splits, self.fraction, self.seed)
        return [case for case in found if place[case.patient] == split]

    def mix(self) -> list[tuple[LabelledDataset, float]]:
        """What training draws from, with weights: all cases alike. One of several parts may weigh them."""
        return [(self, 1.0)]

    def check(self) -> list[Problem]:
        """Read everything and tell what is wrong; empty when all is well. A subclass adds to it: counts, affines."""
        problems = []
        found = self.all_cases()
        if not found:
            problems.append(Problem("", f"no labelled case in {self.root}", f"expected layout:\n{self.layout}"))
        twice = sorted(name for name, number in Counter(case.name for case in found).items() if number > 1)
        problems += [Problem(name, "two cases have this name", "rename one of their files") for name in twice]
        for case in found:
            problems += self.check_case(case)
        return problems

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Read one case: shapes, dtype and ids of its labels."""
        try:
            volume, labels = case.read_image(), np.asarray(case.read_labels())
        except (LimnetError, OSError, ValueError) as error:
            return [Problem(case.name, f"could not be read: {error}", "copy or download it again")]
        if labels.shape != volume.shape:
            what = f"the image is {volume.shape}, its labels {labels.shape}"
            return [Problem(case.name, what, "image and labels must lie on one grid")]
        if labels.dtype.kind not in "iu":
            return [Problem(case.name, f"labels have dtype {labels.dtype}", "save whole numbers")]
        ids = set(np.unique(labels).tolist()) - {0}
        problems = []
        if not ids:
            problems.append(Problem(case.name, "no voxel is labelled", "label it or take it out"))
        if case.labels and (unknown := sorted(i for i in ids if i not in case.labels)):
            known = list(islice(case.labels, 200))
            advice = f"known are {sorted(known)}" if len(known) < 200 else "the file is damaged or of another data set"
            problems.append(Problem(case.name, f"labels {unknown[:10]} are not in the data set's list", advice))
        return problems

    def first_folder(self, *names: str) -> Path:
        """The first of these folders below the root that is there; "" is the root.

        Raises:
            MissingFileError: none is.
        """
        there = (self.root / name for name in names if (self.root / name).is_dir())
        if (found := next(there, None)) is None:
            raise self.missing(f"there is no {' or '.join(names)} in {self.root}")
        return found

    def short(self, path: Path) -> str:
        """A path as seen from the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def compare(
        self, listed: Iterable[str], there: Iterable[str], source: str, used: bool = True, what: str = "cases"
    ) -> list[Problem]:
        """Problems for cases that are listed but not there, and the other way round.

        Args:
            listed: names.
            there: names on disk.
            source: who lists them, for the message.
            used: whether cases that are not listed are used all the same.
            what: the names are of, in the plural.
        """
        wanted, found, problems = set(listed), set(there), []
        if lost := sorted(wanted - found):
            told = f"{len(lost)} of {len(wanted)} {what} of {source} are missing: {shortened(lost, 8)}"
            problems.append(Problem("", told, f"get them: {self.access}"))
        if more := sorted(found - wanted):
            then = "they are used all the same" if used else "they belong to no split and are not used"
            told = f"{len(more)} {what} are not in {source}: {shortened(more, 8)}"
            problems.append(Problem("", told, f"check where they come from; {then}"))
        return problems

    def missing(self, what: str) -> MissingFileError:
        """The error to raise when the folder is not as expected: what is missing, the layout, how to get the data."""
        return MissingFileError(f"{what}. {self.title} is expected as\n{self.layout}\nAccess: {self.access}")


def patient_share(patient: str, seed: int = 0) -> float:
    """A number in [0, 1) that depends on the patient's id and the seed alone (SHA-256)."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_patients(
    patients: Iterable[str], splits: tuple[str, ...] = ("train", "val"), fraction: float = 0.2, seed: int = 0
) -> dict[str, str]:
    """Assign every patient to a split.

    A patient belongs where the hash falls, so it keeps its split when others are added. Below `FEW` patients that would
    give very uneven splits: there each held-out split gets its share in whole patients, at least one, in the order of
    the hash, and one patient at least is left to train.

    Args:
        patients: ids; repeated ones count once.
        splits: "train" first, then "val" and possibly "test".
        fraction: expected share of each split but the first.
        seed: another seed, another split.

    Returns:
        patient -> name of its split.

    Raises:
        InputError: a fraction that leaves nothing for training.
    """
    held = splits[1:]
    if not 0 < fraction * max(len(held), 1) < 1:
        raise InputError(f"fraction is {fraction}; the {len(held)} split(s) {', '.join(held)} must leave some to train")
    order = sorted(set(patients), key=lambda patient: (patient_share(patient, seed), patient))
    counts = dict.fromkeys(splits, 0)
    if len(order) < FEW:
        counts[splits[0]] = len(order)
        for name in held:
            counts[name] = max(min(max(round(fraction * len(order)), 1), counts[splits[0]] - 1), 0)
            counts[splits[0]] -= counts[name]
    else:
        for patient in order:
            counts[_place(patient_share(patient, seed), splits, fraction)] += 1
    sequence = [name for name in (*held, splits[0]) for _ in range(counts[name])]
    return dict(zip(order, sequence, strict=True))


def _place(share: float, splits: tuple[str, ...], fraction: float) -> str:
    number = int(share / fraction)
    return splits[number + 1] if number < len(splits) - 1 else splits[0]
