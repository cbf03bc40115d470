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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from limnet.data.dataset import CaseFiles, Problem, patient_share
from limnet.data.files import NIFTI, by_stem
from limnet.data.module import data_module
from limnet.datasets.decathlon import DecathlonDataset
from limnet.errors import InputError, MissingFileError
from limnet.image.io.atomic import made_folder

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


@dataclass(eq=False, repr=False)
class MsdDataset(DecathlonDataset):
    """A task of the decathlon. Case names are those of the files: "colon_001", one patient each.

    Args:
        protocol: whose lists divide the cases; the first one of the task by default.
        download: get the archive from the decathlon's owner if the task is not there (MONAI does it and verifies its
            checksum; several GB). Nothing is downloaded otherwise.
    """

    licence = "CC BY-SA 4.0"
    access = "free download from http://medicaldecathlon.com; or ask for it with download=True"
    task: ClassVar[str]
    labelled: ClassVar[int]  # cases with labels in the archive
    protocols: ClassVar[Mapping[str, Lists]] = {}  # published lists
    shares: ClassVar[tuple[int, ...]] = ()  # cases in each split, where only numbers are published
    protocol: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if self.protocol is not None and self.protocol not in self.protocols:
            known = ", ".join(self.protocols) or "none: no list of its cases has been published"
            raise InputError(f"protocol {self.protocol!r} is unknown; those of {self.title} are {known}")
        self.protocol = self.protocol or next(iter(self.protocols), None)
        places = (self.root, self.root / self.task)
        there = next((place for place in places if (place / "dataset.json").is_file()), None)
        if there is not None:
            self.root = there
        elif self.download:
            self.root = download_task(self.task, self.root)
        super().__post_init__()

    def list_files(self) -> Iterable[CaseFiles]:
        """Cases of dataset.json, by the protocol's lists, or by the hash where there are none."""
        listed, prefix = list(super().list_files()), f"{self.task.split('_')[1].lower()}_"
        if not any(files.name.startswith(prefix) for files in listed):
            raise self.missing(f"dataset.json in {self.root} lists no {prefix}###")
        places: Mapping[str, str | None] = {}
        if self.shares:
            places = divide([files.patient for files in listed], self.splits, self.shares, self.seed)
        elif self.protocol is not None:
            pairs = [(s, n) for s, numbers in self.protocols[self.protocol].items() for n in numbers]
            places = {f"{prefix}{number:03d}": split for split, number in pairs}
        # no channel: these tasks are 3-D, and a 4-D image is refused
        return [replace(files, split=places.get(files.patient, "train"), channel=None) for files in listed]

    def check_files(self) -> list[Problem]:
        """The number of cases, and files that dataset.json does not list."""
        # An archive can be whole although its numTraining counts a case that it does not hold.
        listed = {files.name for files in self.files}
        problems = [] if len(listed) == self.labelled else super().check_files()
        for folder in ("imagesTr", "labelsTr"):
            if more := sorted(set(by_stem(self.root / folder, *NIFTI)) - listed):
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
    windows: ClassVar = {"ct": (-160.0, 240.0)}
    protocols = COLON


class MsdLungDataset(MsdDataset):
    """MSD Task06: lung cancer, 63 labelled CTs."""

    title = "MSD Task06 Lung"
    task = "Task06_Lung"
    layout = "Task06_Lung/dataset.json\nTask06_Lung/imagesTr/lung_001.nii.gz\nTask06_Lung/labelsTr/lung_001.nii.gz"
    labelled = 63
    windows: ClassVar = {"ct": (-1000.0, 400.0)}
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
    windows: ClassVar = {"ct": (-160.0, 240.0)}
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
    made_folder(above)
    try:
        download_and_extract(
            url=MonaiDecathlon.resource[task],
            filepath=above / f"{task}.tar",
            output_dir=above,
            hash_val=MonaiDecathlon.md5[task],
            hash_type="md5",
        )
    except Exception as error:  # of the network, as MONAI, gdown and requests raise them
        raise MissingFileError(f"{task} could not be downloaded ({error}): try again, or get it by hand") from error
    return above / task


MsdColonDataModule = data_module(MsdColonDataset)
MsdLungDataModule = data_module(MsdLungDataset)
MsdPancreasDataModule = data_module(MsdPancreasDataset)
