"""Data sets in which every case is an image file and its label files: FileDataset, the base of most data sets."""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem, split_patients
from limnet.data.files import by_stem, image_suffix, read_image, read_labels, shortened
from limnet.errors import LimnetError, MissingFileError
from limnet.image.io.pictures import PICTURES
from limnet.image.volume import Volume

BY_HASH = "by the hash of the patient"


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case.

    Attributes:
        name: of the case, see `limnet.data.files.case_name`.
        patient: splits keep cases of one patient, scene or film together.
        image: image file, whether there or not; of a video the folder of its frames.
        masks: label files, whether there or not; folders of them count, too.
        modality: one of `limnet.data.dataset.MODALITIES`.
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


class FileDataset(LabelledDataset):
    """A data set of files: a subclass lists them in `list_files`, and says in attributes what they hold.

    Cases of which a file is missing are left out, with one warning; `check` names the files. By default files of any
    kind are read as they are stored.

    Attributes:
        labels: ids -> names.
        windows: modality -> customary display window in raw units.
        includes: see `LabelledCase`.
        cached: see `LabelledCase`.
        published: number of cases that its owner gives, 0 for none; see `unit`.
        unit: what a case is, in the plural.
        hashed: splits that `BY_HASH` divides cases among, all of `splits` where empty.
        files: all cases, also those of which a file is missing, in a fixed order.
    """

    labels: ClassVar[Mapping[int, str]] = {}
    windows: ClassVar[Mapping[str, tuple[float, float]]] = {}
    includes: ClassVar[Mapping[int, tuple[int, ...]]] = {}
    cached: ClassVar[bool] = True
    published: ClassVar[int] = 0
    unit: ClassVar[str] = "cases"
    hashed: ClassVar[tuple[str, ...]] = ()
    files: list[CaseFiles]
    _told = False

    @abstractmethod
    def list_files(self) -> Iterable[CaseFiles]:
        """Files of every case in a fixed order, also of those of which a file is missing; nothing is read.

        Raises:
            MissingFileError: the folder is not this data set: `raise self.missing("there is no imagesTr in ...")`.
        """

    def check_files(self) -> list[Problem]:
        """What is missing or too many by names alone, besides files of a case: the published number of cases."""
        number = len(self.files)
        if number == self.published or not self.published:
            return []
        advice = f"get it: {self.access}" if number < self.published else "take out what does not belong to it"
        return [Problem("", f"{number} {self.unit}, published are {self.published}", advice)]

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """A partial that reads the image, its path the first argument."""
        return partial(read_image, files.image, files.channel, files.modality)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial that reads the labels, the path of the first file the first argument."""
        return partial(read_labels, files.masks[0], files.ignored)

    def find(self) -> None:
        """List the files and divide them; a missing file moves no other case to another split."""
        self.files = list(self.list_files())
        patients = [f.patient for f in self.files if f.split == BY_HASH]
        splits = self.hashed or self.splits
        place = split_patients(patients, splits, self.fraction, self.seed) if patients else {}
        self._places = {f.name: place[f.patient] if f.split == BY_HASH else f.split for f in self.files}

    def split_of(self, case: LabelledCase) -> str | None:
        """The published split, or that of the patient's hash."""
        return self._places.get(case.name)

    def require_some(self, files: list[CaseFiles], source: Path) -> list[CaseFiles]:
        """The files themselves, if one of the cases has all of its own.

        Args:
            files: of all cases.
            source: the file or folder that lists them, for the message.

        Raises:
            MissingFileError: not one has; the message names the first missing files.
        """
        if any(not f.absent for f in files):
            return files
        absent = [str(path) for f in files for path in f.absent]
        raise MissingFileError(
            f"none of the {len(files)} case(s) of {source} has both files; not there are {shortened(absent)}. "
            "Unpack the archive again, or correct the list"
        )

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

    def check(self) -> list[Problem]:
        """Names, then every file: damage, shapes, labels, grids."""
        self._told = True  # the problems say it
        problems = []
        for files in self.files:
            if absent := files.absent:
                what = f"left out, as {' and '.join(map(self.short, absent))} {'is' if len(absent) == 1 else 'are'} not"
                advice = "copy it again, or take the case out of the data set"
                problems.append(Problem(files.name, f"{what} there", advice))
        return problems + self.check_files() + super().check()

    def check_lists(self, lists: str) -> list[Problem]:
        """A problem where cases are in no list of the split.

        Args:
            lists: file with the lists.
        """
        lone = [files.name for files in self.files if files.split is None and not files.absent]
        if not lone:
            return []
        what = f"{len(lone)} case(s) are in no list of {lists} and are not used: {shortened(lone)}"
        return [Problem("", what, "add them to a list, or take them out")]

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Shapes and ids, and that volumes and their labels lie on the same grid in space."""
        problems = super().check_case(case)
        image, label = paths_of(case)
        if problems or {image_suffix(image), image_suffix(label)} & {None, *PICTURES, ".npz"}:
            return problems
        try:
            grids = case.read_image(), read_image(label)
        except LimnetError:
            return problems
        first, second = (grid.affine_in("RAS") for grid in grids)
        if not np.allclose(first, second, atol=1e-2 * min(grids[0].spacing)):
            steps = " and ".join(str(tuple(round(step, 4) for step in grid.spacing)) for grid in grids)
            what = f"{image.name} and {label.name} have the same shape but other grids: spacing {steps} mm"
            advice = "resample one onto the other, or copy the right header"
            problems.append(Problem(case.name, f"{what}, or other origins or directions", advice))
        return problems


def paths_of(case: LabelledCase) -> tuple[Path, Path]:
    """The files that a case's image and labels are read from: the first arguments of its partials, or of these."""
    reads: tuple[Any, Any] = (case.read_image, case.read_labels)
    image, label = (read.args[0] if isinstance(read.args[0], Path) else read.args[0][0] for read in reads)
    return image, label


def pairs_by_stem(
    images: Path, masks: Path, kinds: tuple[str, ...] = (), mask_kinds: tuple[str, ...] = (), ending: str = ""
) -> Iterator[tuple[str, str, Path, Path]]:
    """Images and masks of two folders that bear the same name.

    Args:
        images: folder of the images.
        masks: folder of the masks.
        kinds: suffixes of images, the first for those that are missing; all of pictures by default.
        mask_kinds: likewise of masks.
        ending: pattern of what a mask's name may have behind that of its image; each mask then is a pair of its own.

    Yields:
        Names of mask and image without suffix, image and mask in the order of the masks' names; for a file that is
        missing the path where it should be.
    """
    found, marked = by_stem(images, *kinds), by_stem(masks, *mask_kinds)
    owner = {mask: mask if mask in found else re.sub(f"(?:{ending})$", "", mask) for mask in marked}
    owned = set(owner.values())
    owner |= {stem: stem for stem in found if stem not in owned}
    for mask, stem in sorted(owner.items()):
        image = found.get(stem, images / f"{stem}{(*kinds, '.jpg')[0]}")
        yield mask, stem, image, marked.get(mask, masks / f"{mask}{(*mask_kinds, '.png')[0]}")
