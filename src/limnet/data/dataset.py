"""LabelledCase, an image with its labels, read when asked; LabelledDataset, a data set as its owner ships it."""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.files import NIFTI, image_suffix, labels_in, read_image, read_labels, shortened
from limnet.errors import InputError, LimnetError, MissingFileError
from limnet.image.io.formats import read_single
from limnet.image.io.nifti import NiftiGrid, read_nifti_grid
from limnet.image.io.pictures import PICTURES
from limnet.image.volume import Volume

MODALITIES = ("ct", "mr", "us", "photo", "endoscopy", "video", "microscopy", "other")
BY_HASH = "by the hash of the patient"
Found = tuple[str, str]
"""What is wrong, and what to do."""
AGAIN = "copy or download it again"
FEW = 40  # patients; with fewer the sizes of the splits are exact
_APART = 0.1  # image and labels may lie this share of a voxel apart: rounding in headers
_WITHOUT_GRID = (*PICTURES, ".npy", ".npz")


@dataclass(frozen=True)
class LabelledCase:
    """One labelled image, read lazily: nothing big is held, both callables read from disk each time.

    The callables are `functools.partial` of module-level functions over paths and plain values, so that a case can be
    sent to another process and its cached copy be found again.

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
    """Something wrong with a data set on disk: the case or file ("" for the whole), what, and what to do."""

    case: str
    what: str
    advice: str


def numbered(names: str) -> dict[int, str]:
    """Label ids from 1 on -> names, which come as "liver, spleen"."""
    return dict(enumerate(names.split(", "), 1))


class InstanceNames(Mapping[int, str]):
    """Label ids -> "<kind> <number>" for data sets that tell objects apart but do not say how many there are.

    `runs` are (kind, first id, last id), in ascending order; numbers of a kind start at 1.
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


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case, whether there or not.

    Attributes:
        name: of the case, see `limnet.data.files.case_name`.
        patient: splits keep cases of one patient, scene or film together.
        image: image file; of a video the folder of its frames.
        masks: label files, or folders of them.
        split: the published one, None for none of them, or `BY_HASH`.
        labels: ids -> names; None for those of the data set.
        ignored: ids to read as background.
        channel: which volume of a 4-D image file, or picture of a stack, if it is one.
        frames: of a video (picture, mask) file names of every frame that has both, in order.
        lone: names without suffix of frames or masks that lack their partner, where each should have one.
    """

    name: str
    patient: str
    image: Path
    masks: tuple[Path, ...]
    modality: str = "other"
    split: str | None = BY_HASH
    labels: Mapping[int, str] | None = None
    ignored: tuple[int, ...] = ()
    channel: int | None = None
    frames: tuple[tuple[str, str], ...] | None = None
    lone: tuple[str, ...] = ()

    @property
    def absent(self) -> list[Path]:
        """Those of the files that are not there; of a video its folders, if no frame of one has a mask in the other."""
        paths = (self.image, *self.masks)
        return [path for path in paths if (not path.exists() if self.frames is None else not self.frames)]


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

    A subclass lists the files of its cases in `list_files`, and says in attributes what they hold; options of its own
    are further fields of a dataclass. By default files of any kind are read as they are stored. Cases of which a file
    is missing are left out, with one warning; `check` names the files.

    Args:
        root: the folder, a path or its text.
        fraction: share of patients held out for each split but "train", where no split is published.
        seed: of that assignment.

    Attributes:
        title: name of the data set.
        access: how to get it, with an address.
        layout: of its folder, as messages show it; by default what the docstring of its module draws.
        splits: names of its splits, "train" first.
        hashed: splits that `BY_HASH` divides cases among, all of `splits` where empty.
        layered: whether a case repeats one picture, once for each layer of objects: no volume to propagate through.
        choices: option -> its allowed values.
        windows: modality -> customary display window in raw units.
        published: number of cases (see `unit`, a plural) that its owner gives, 0 for none.
        files: all cases, also those of which a file is missing, in a fixed order.

    Raises:
        InputError: an option that is not among its choices.
        MissingFileError: the folder does not look like this data set; the message shows the expected layout.
        FileFormatError: a list or table of the data set that is damaged or of another form.
    """

    title: ClassVar[str]
    licence: ClassVar[str]
    access: ClassVar[str]
    layout: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    hashed: ClassVar[tuple[str, ...]] = ()
    layered: ClassVar[bool] = False
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    labels: ClassVar[Mapping[int, str]] = {}
    windows: ClassVar[Mapping[str, tuple[float, float]]] = {}
    includes: ClassVar[Mapping[int, tuple[int, ...]]] = {}
    cached: ClassVar[bool] = True
    published: ClassVar[int] = 0
    unit: ClassVar[str] = "cases"

    root: _Folder = _Folder()
    fraction: float = 0.2
    seed: int = 0

    def __init_subclass__(cls) -> None:
        if "layout" not in cls.__dict__ and cls.__module__ != __name__:
            lines = (sys.modules[cls.__module__].__doc__ or "").splitlines()
            cls.layout = "\n".join(line[4:] for line in lines if line.startswith("    ")) or cls.layout

    def __post_init__(self) -> None:
        for option, allowed in self.choices.items():
            if (value := getattr(self, option)) not in allowed:
                raise InputError(f"{option} is {value!r}; allowed are {', '.join(map(str, allowed))}")
        if not self.root.is_dir():
            raise self.missing(f"{self.root} is no folder")
        self.files: list[CaseFiles] = list(self.list_files())
        self._told = False
        patients = [f.patient for f in self.files if f.split == BY_HASH]  # a missing file moves no other case
        place = split_patients(patients, self.hashed or self.splits, self.fraction, self.seed) if patients else {}
        self._places = {f.name: place[f.patient] if f.split == BY_HASH else f.split for f in self.files}

    @abstractmethod
    def list_files(self) -> Iterable[CaseFiles]:
        """Files of every case in a fixed order, also of those of which a file is missing; nothing is read.

        Where the folder is not this data set: `raise self.missing("there is no imagesTr in ...")`.
        """

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial that reads the image, its path the first argument."""
        return partial(read_image, files.image, files.channel, files.modality)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial that reads the labels, the path of the first file the first argument."""
        return partial(read_labels, files.masks[0], files.ignored)

    def cases(self, split: str) -> list[LabelledCase]:
        """Cases of a split: the published one, else by a stable hash of the patient; InputError for another name."""
        if split not in self.splits:
            raise InputError(f"{self.title} has no split {split!r}; there are {', '.join(self.splits)}")
        return [case for case in self.all_cases() if self._places.get(case.name) == split]

    def all_cases(self) -> list[LabelledCase]:
        """A case for each whose files are all there; warns once if there are others."""
        whole = [f for f in self.files if not f.absent]
        if len(whole) < len(self.files) and not self._told:
            warnings.warn(
                f"{len(self.files) - len(whole)} of {len(self.files)} cases in {self.root} lack their image or labels "
                f"and are left out: {shortened(f.name for f in self.files if f.absent)}. Complete them; limnet data "
                "check names the files"
            )
            self._told = True
        return [self.case_of(f) for f in whole]

    def case_of(self, files: CaseFiles) -> LabelledCase:
        """The case of some files."""
        return LabelledCase(
            files.name,
            files.patient,
            files.modality,
            self.labels if files.labels is None else files.labels,
            self.image_of(files),
            self.labels_of(files),
            self.windows.get(files.modality),
            self.cached,
            self.includes,
        )

    def mix(self) -> list[tuple[LabelledDataset, float]]:
        """What training draws from, with weights: all cases alike. One of several parts may weigh them."""
        return [(self, 1.0)]

    def check(self) -> list[Problem]:
        """Read everything and tell what is wrong; empty when all is well."""
        self._told = True  # the problems say it
        problems = [Problem(files.name, *self.lacking(files)) for files in self.files if files.absent]
        problems += self.check_files()
        found = self.all_cases()
        if not found:
            problems.append(Problem("", f"no labelled case in {self.root}", f"expected layout:\n{self.layout}"))
        twice = sorted(name for name, number in Counter(case.name for case in found).items() if number > 1)
        problems += [Problem(name, "two cases have this name", "rename one of their files") for name in twice]
        return problems + [problem for case in found for problem in self.check_case(case)]

    def lacking(self, files: CaseFiles) -> tuple[str, str]:
        """What is wrong with a case that lacks a file, and what to do."""
        what = f"left out, as {' and '.join(map(self.short, files.absent))} {'is' if len(files.absent) == 1 else 'are'}"
        return f"{what} not there", "copy it again, or take the case out of the data set"

    def check_files(self) -> list[Problem]:
        """What is missing or too many by names alone, besides files of a case: the published number of cases."""
        number = len(self.files)
        if number == self.published or not self.published:
            return []
        advice = f"get it: {self.access}" if number < self.published else "take out what does not belong to it"
        return [Problem("", f"{number} {self.unit}, published are {self.published}", advice)]

    def check_lists(self, lists: str) -> list[Problem]:
        """A problem where cases are in no list of the split; `lists` is the file with the lists."""
        lone = [files.name for files in self.files if files.split is None and not files.absent]
        if not lone:
            return []
        what = f"{len(lone)} case(s) are in no list of {lists} and are not used: {shortened(lone)}"
        return [Problem("", what, "add them to a list, or take them out")]

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Read image and labels, one after the other: damage, values, and that both lie on one grid in space."""
        image, label = paths_of(case)
        found: list[Found] = []
        grid: NiftiGrid | None = None
        with noted(found):
            volume = case.read_image()
            grid = NiftiGrid(volume.shape, volume.affine_in("RAS"))
            found += check_intensities(volume, image)
            del volume  # never both in memory
        with noted(found):
            labels = np.asarray(case.read_labels())
            if grid is not None and labels.shape != grid.shape:
                what = f"the image is {grid.shape}, its labels {labels.shape}"
                found.append((what, "image and labels must lie on one grid: copy both again"))
            else:
                found += check_ids(labels, case.labels)
                if grid is not None and not {image_suffix(image), image_suffix(label)} & {None, *_WITHOUT_GRID}:
                    stored = _read_grid(image) if image_suffix(image) in NIFTI else grid  # not as it was turned
                    found += compare_grids(stored, _read_grid(label))
        return [Problem(case.name, *one) for one in dict.fromkeys(found)]

    def require_some(self, files: list[CaseFiles], source: Path) -> list[CaseFiles]:
        """The files themselves; MissingFileError with the first missing ones if no case has all of its own.

        `source` is the file or folder that lists them, for the message.
        """
        if any(not f.absent for f in files):
            return files
        absent = [str(path) for f in files for path in f.absent]
        raise MissingFileError(
            f"none of the {len(files)} case(s) of {source} has both files; not there are {shortened(absent)}. "
            "Unpack the archive again, or correct the list"
        )

    def first_folder(self, *names: str) -> Path:
        """The first of these folders below the root that is there ("" is the root); MissingFileError if none is."""
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
        """Problems for names that are listed (by `source`) but not there on disk, and the other way round.

        `used` says whether those that are not listed are used all the same, `what` they are, in the plural.
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


def paths_of(case: LabelledCase) -> tuple[Path, Path]:
    """The files that a case's image and labels are read from: the first arguments of its partials, or of these."""
    reads: tuple[Any, Any] = (case.read_image, case.read_labels)
    image, label = (read.args[0] if isinstance(read.args[0], Path) else read.args[0][0] for read in reads)
    return image, label


def patient_share(patient: str, seed: int = 0) -> float:
    """A number in [0, 1) that depends on the patient's id and the seed alone (SHA-256)."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_patients(
    patients: Iterable[str], splits: tuple[str, ...] = ("train", "val"), fraction: float = 0.2, seed: int = 0
) -> dict[str, str]:
    """Assign every patient to one of `splits`, "train" first.

    A patient belongs where the hash falls, so it keeps its split when others are added. Below `FEW` patients that would
    give very uneven splits: there each held-out split gets its share in whole patients, at least one, in the order of
    the hash, and one patient at least is left to train. `fraction` is the expected share of each split but the first;
    InputError for one that leaves nothing for training.
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


@contextmanager
def noted(found: list[Found]) -> Iterator[None]:
    """Adds to what is wrong that a file is damaged, if it turns out so inside."""
    try:
        yield
    except (LimnetError, OSError, ValueError) as error:
        found.append((str(error), AGAIN))


def check_intensities(volume: Volume, path: Path) -> list[Found]:
    """Voxels that are not finite, an image without contrast, and colours where the file holds a scan."""
    if volume.is_color and image_suffix(path) in NIFTI:
        return [("the image holds colours", "save one intensity a voxel")]
    if not np.isfinite(volume.array).all():
        return [("some voxels of the image are NaN or infinite", "repair them; they are shown as darkest or brightest")]
    doubt = volume.intensity.doubt
    return [(f"the image has {doubt}", "see whether it is the image, or copy it again")] if doubt else []


def check_ids(labels: NDArray[Any], names: Mapping[int, str]) -> list[Found]:
    """Labels that are no whole numbers, not among the names (any will do where there are none), or none at all."""
    if labels.dtype.kind not in "iu":
        return [(f"labels have dtype {labels.dtype}", "save whole numbers")]
    ids = labels_in(labels) - {0}
    if not ids:
        return [("no voxel is labelled", "label it, copy the labels again, or take the case out")]
    if names and (unknown := sorted(i for i in ids if i not in names)):
        known = ", ".join(f"{i} {name}" for i, name in islice(names.items(), 15))
        return [(f"labels {unknown[:10]} are not in the data set's list", f"known are {known}")]
    return []


def compare_grids(image: NiftiGrid, label: NiftiGrid) -> list[Found]:
    """Shapes that differ, and grids that lie apart."""
    if image.shape != label.shape:
        what = f"the image is {image.shape}, its labels {label.shape} (slices, rows, columns as stored)"
        return [(what, "image and labels must lie on one grid: copy both again")]
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*image.shape[::-1], 1]
    apart = float(np.linalg.norm((corners @ (image.affine - label.affine).T)[:, :3], axis=1).max())
    if apart > _APART * float(np.linalg.norm(image.affine[:3, :3], axis=0).min()):
        what = f"image and labels lie up to {apart:.3g} mm apart in space, though their shapes agree"
        return [(what, "compare them in a viewer; limnet takes them voxel by voxel and uses the image's affine")]
    return []


def _read_grid(path: Path) -> NiftiGrid:
    if image_suffix(path) in NIFTI:
        return read_nifti_grid(path)
    volume = read_single(path)
    return NiftiGrid(volume.shape, volume.affine_in("RAS"))
