"""Tumours of the Medical Segmentation Decathlon: Task06 lung, Task07 pancreas, Task10 colon.

Layout of each task as unpacked from its archive (the root may also be the folder above)::

    Task10_Colon/dataset.json
    Task10_Colon/imagesTr/colon_001.nii.gz        numbers are sparse: training and test share one range
    Task10_Colon/labelsTr/colon_001.nii.gz
    Task10_Colon/imagesTs/                        labels are hidden

The archives hold macOS side files (`._colon_001.nii.gz`), which are skipped. Volumes are read as stored: the last axis
of the file, axis 0 of the array, is the slice axis; left and right are not the same in every file. Slices of colon and
pancreas lie 2.5 to 7.5 mm apart. Tumours are tiny and most slices empty.

Splits:

- colon: Mem3D's list (protocol "mem3d"), 26 cases held out by number, the others train; colon_212 stands in neither of
  its lists and is left out. Or fold 0 of 3DSAM-adapter's split.pkl (protocol "3dsam"), 89 / 11 / 26.
- lung: nothing is published by number. The 64 / 32 of papers are the official training and test cases, and the test
  labels are hidden. A third of the 63 labelled cases is held out by a hash: 42 / 21.
- pancreas: fold 0 of 3DSAM-adapter's split.pkl (protocol "3dsam"), 196 / 28 / 57.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from limnet.data.dataset import LabelledCase, Problem, patient_share
from limnet.data.module import CaseDataModule
from limnet.datasets.decathlon import DecathlonDataset
from limnet.datasets.nifti_pairs import NiftiPair, check_pair, nifti_files
from limnet.errors import InputError

Lists = Mapping[str | None, frozenset[int]]
"""Split -> numbers of its cases, None for those left out; all others train."""

COLON: dict[str, Lists] = {
    "mem3d": {
        "val": frozenset(
            (
                *(1, 11, 22, 30, 40, 50, 61, 72, 81, 91, 100, 111, 120),
                *(131, 140, 154, 161, 175, 181, 192, 201, 203, 207, 213, 215, 218),
            )
        ),
        None: frozenset((212,)),
    },
    "3dsam": {
        "val": frozenset((15, 38, 54, 77, 114, 124, 134, 140, 168, 192, 206)),
        "test": frozenset(
            (
                *(8, 9, 26, 30, 40, 46, 91, 95, 98, 104, 129, 133, 136, 141, 142, 145),
                *(163, 164, 181, 194, 202, 205, 207, 208, 215, 218),
            )
        ),
    },
}
PANCREAS: dict[str, Lists] = {
    "3dsam": {
        "val": frozenset(
            (
                *(56, 61, 64, 81, 86, 89, 99, 102, 106, 125, 127, 130, 158, 169, 222, 243),
                *(249, 253, 297, 309, 315, 329, 342, 351, 379, 388, 392, 395),
            )
        ),
        "test": frozenset(
            (
                *(6, 10, 15, 16, 18, 19, 21, 24, 29, 46, 49, 50, 87, 104, 111, 119, 129, 131, 149, 167),
                *(183, 193, 200, 215, 226, 230, 239, 244, 246, 254, 259, 261, 269, 285, 289, 294, 299),
                *(301, 303, 310, 320, 323, 326, 330, 345, 346, 347, 354, 377, 387, 389, 398),
                *(401, 406, 409, 412, 419),
            )
        ),
    }
}


class MsdDataset(DecathlonDataset):
    """A task of the decathlon. Case names are those of the files: "colon_001", one patient each.

    Args:
        root: the task's folder, or the one above.
        fraction: not used, the sizes of the splits are published.
        seed: of the hash where cases are chosen by it.
        channel: which volume of 4-D images; these three tasks are 3-D.
        protocol: whose lists divide the cases; the first one of the task by default.
        download: get the archive from the decathlon's owner if the task is not there (MONAI does it and verifies its
            checksum; several GB). Nothing is downloaded otherwise.

    Raises:
        InputError: a protocol that the task does not have.
        MissingFileError: the folder does not look like the task, or not one case that it lists has both files.
        FileFormatError: dataset.json lacks its lists.
    """

    licence = "CC BY-SA 4.0"
    access = "free download from http://medicaldecathlon.com; or ask for it with download=True"
    task: ClassVar[str]
    labelled: ClassVar[int]  # cases with labels in the archive
    window: ClassVar[tuple[float, float]]
    protocols: ClassVar[Mapping[str, Lists]] = {}  # published lists
    shares: ClassVar[tuple[int, ...]] = ()  # cases in each split, where only numbers are published

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.2,
        seed: int = 0,
        channel: int = 0,
        protocol: str | None = None,
        download: bool = False,
    ) -> None:
        if protocol is not None and protocol not in self.protocols:
            known = ", ".join(self.protocols) or "none: no list of its cases has been published"
            raise InputError(f"protocol {protocol!r} is unknown; those of {self.title} are {known}")
        self.protocol = protocol or next(iter(self.protocols), None)
        root = Path(root)
        if download and not any((place / "dataset.json").is_file() for place in (root, root / self.task)):
            root = download_task(self.task, root)
        super().__init__(root, fraction, seed, channel)

    def find(self) -> None:
        """Look for the task in the root or below it, read dataset.json and divide the cases."""
        if not (self.root / "dataset.json").is_file() and (self.root / self.task / "dataset.json").is_file():
            self.root = self.root / self.task
        super().find()
        listed = [*self.pairs, *self.incomplete]  # a missing file moves no other case to another split
        if not any(pair.name.startswith(self.prefix) for pair in listed):
            raise self.missing(f"dataset.json in {self.root} lists no {self.prefix}###")
        if self.shares:
            self._places = divide([pair.patient for pair in listed], self.splits, self.shares, self.seed)

    @property
    def prefix(self) -> str:
        """What file names begin with: "colon_"."""
        return f"{self.task.split('_')[1].lower()}_"

    def split_of(self, case: LabelledCase) -> str | None:
        """By the protocol's lists, or by the hash where there are none."""
        if self.protocol is None:
            return super().split_of(case)
        match = re.fullmatch(rf"{self.prefix}(\d+)", case.name)
        number = int(match[1]) if match else -1
        lists = self.protocols[self.protocol]
        return next((split for split, numbers in lists.items() if number in numbers), "train")

    def all_cases(self) -> list[LabelledCase]:
        """A case for each pair, with the customary window."""
        return [dataclasses.replace(case, window=self.window) for case in super().all_cases()]

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Both files slab by slab, and that they lie on the same grid."""
        pair = next(pair for pair in self.pairs if pair.name == case.name)
        files = NiftiPair(pair.name, pair.patient, pair.modality, pair.image, pair.label)
        return check_pair(files, pair.labels)

    def check(self) -> list[Problem]:
        """The general checks, and files that dataset.json does not list."""
        # An archive can be whole although its numTraining counts a case that it does not hold.
        listed = {pair.name for pair in (*self.pairs, *self.incomplete)}
        whole = len(listed) == self.labelled
        problems = [p for p in super().check() if not (whole and "numTraining" in p.what)]
        for folder in ("imagesTr", "labelsTr"):
            if more := sorted(set(nifti_files(self.root / folder)) - listed):
                what = f"{folder} holds {len(more)} cases that dataset.json does not list, such as {more[0]}"
                problems.append(Problem("", what, "they are not used; list them, or copy dataset.json again"))
        return problems


class MsdColonDataset(MsdDataset):
    """MSD Task10: primary colon cancer, 126 labelled CTs."""

    title = "MSD Task10 Colon"
    task = "Task10_Colon"
    layout = "Task10_Colon/dataset.json\nTask10_Colon/imagesTr/colon_001.nii.gz\nTask10_Colon/labelsTr/colon_001.nii.gz"
    splits = ("train", "val", "test")
    labelled = 126
    window = (-160.0, 240.0)
    protocols = COLON


class MsdLungDataset(MsdDataset):
    """MSD Task06: lung cancer, 63 labelled CTs."""

    title = "MSD Task06 Lung"
    task = "Task06_Lung"
    layout = "Task06_Lung/dataset.json\nTask06_Lung/imagesTr/lung_001.nii.gz\nTask06_Lung/labelsTr/lung_001.nii.gz"
    labelled = 63
    window = (-1000.0, 400.0)
    shares = (42, 21)


class MsdPancreasDataset(MsdDataset):
    """MSD Task07: pancreas and its tumours, 281 labelled CTs."""

    title = "MSD Task07 Pancreas"
    task = "Task07_Pancreas"
    layout = (
        "Task07_Pancreas/dataset.json\nTask07_Pancreas/imagesTr/pancreas_001.nii.gz\n"
        "Task07_Pancreas/labelsTr/pancreas_001.nii.gz"
    )
    splits = ("train", "val", "test")
    labelled = 281
    window = (-160.0, 240.0)
    protocols = PANCREAS


def divide(patients: list[str], splits: tuple[str, ...], shares: tuple[int, ...], seed: int) -> dict[str, str]:
    """Assign patients to splits by the rank of their hash, in the proportion of `shares`; exact when all are there."""
    order = sorted(set(patients), key=lambda patient: (patient_share(patient, seed), patient))
    total, start, filled = sum(shares), 0, 0
    places: dict[str, str] = {}
    for split, share in [*zip(splits[1:], shares[1:], strict=True), (splits[0], shares[0])]:
        filled += share
        stop = round(len(order) * filled / total)
        places |= dict.fromkeys(order[start:stop], split)
        start = stop
    return places


def download_task(task: str, root: Path) -> Path:
    """Download and unpack a task with MONAI's address and checksum; returns its folder.

    Args:
        task: such as "Task10_Colon".
        root: the folder to put the task's folder in, or that folder itself.
    """
    from monai.apps import DecathlonDataset as MonaiDecathlon
    from monai.apps import download_and_extract

    above = root.parent if root.name == task else root
    above.mkdir(parents=True, exist_ok=True)
    download_and_extract(
        url=MonaiDecathlon.resource[task],
        filepath=above / f"{task}.tar",
        output_dir=above,
        hash_val=MonaiDecathlon.md5[task],
        hash_type="md5",
    )
    return above / task


class MsdColonDataModule(CaseDataModule):
    """Training clips and whole cases of MSD Colon."""

    dataset_class = MsdColonDataset


class MsdLungDataModule(CaseDataModule):
    """Training clips and whole cases of MSD Lung."""

    dataset_class = MsdLungDataset


class MsdPancreasDataModule(CaseDataModule):
    """Training clips and whole cases of MSD Pancreas."""

    dataset_class = MsdPancreasDataset
