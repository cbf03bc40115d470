"""The objects of the open volumes that the analysis scripts work on, with their images, one at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.bench.objects import SMALLEST, iter_objects
from limnet.datasets.labelled import LabelledCase
from limnet.datasets.open import read_manifest
from limnet.volume import Volume

# Row of the tables -> fragments of file names; the first match holds.
GROUPS: dict[str, tuple[str, ...]] = {
    "organs and bones, CT": ("ts_ct", "dcmqi"),
    "organs, MR": ("ts_mr", "spinegeneric", "sct_"),
    "nodules, CT": ("lidc",),
    "lesions, brain MR": ("openms",),
    "structures, brain MR": ("vxm", "mni152", "ch2", "inia19"),
    "microscopy": ("micro/", "2d/"),
}


class StudyObject(NamedTuple):
    """One object with its image.

    Attributes:
        file: path of the file below the data folder.
        object: name, unique within the file.
        group: row of the tables it belongs to.
        volume: the image; slices lie along axis 0.
        truth: bool (D, H, W).
    """

    file: str
    object: str
    group: str
    volume: Volume
    truth: NDArray[np.bool_]

    @property
    def key(self) -> dict[str, str]:
        """What names the object in kept rows."""
        return {"file": self.file, "object": self.object}

    @property
    def number(self) -> int:
        """A number of the object that seeds what is random about it; the same on every machine."""
        return zlib.crc32(f"{self.file}/{self.object}".encode())


def group_of(file: str) -> str:
    """Group of a file."""
    return next((group for group, parts in GROUPS.items() if any(p in file for p in parts)), "other")


def study_objects(
    root: Path,
    split: str,
    per_file: int | None = None,
    per_group: int | None = None,
    skip: str = "2d/",
    only: str = "",
    smallest: int = SMALLEST,
) -> Iterator[StudyObject]:
    """Objects of the open volumes in the order of their manifest; a file is read when its first object is asked for.

    Args:
        root: folder with manifest.json.
        split: "train" or "val".
        per_file: at most that many objects of a file, spread evenly over all of them.
        per_group: at most that many files of one group.
        skip: leave out files whose name holds this; nothing if empty.
        only: take only files whose name holds this.
        smallest: least number of voxels of an object.

    Raises:
        MissingFileError: there is no manifest at `root`.
    """
    seen: dict[str, int] = {}
    for entry in read_manifest(root):
        file, group = str(entry["file"]), group_of(str(entry["file"]))
        unwanted = (skip and skip in file) or only not in file or entry.get("kind") == "labels-only"
        if unwanted or not file.startswith(split + "/"):
            continue
        seen[group] = seen.get(group, 0) + 1
        if per_group is not None and seen[group] > per_group:
            continue
        case = LabelledCase(
            name=file.removesuffix(".npz").replace("/", "-"),
            patient=file,
            modality="other",
            labels={int(i): str(n) for i, n in (entry.get("labels") or {}).items() if int(i) != 0},
            read_image=partial(_image, Path(root) / file),
            read_labels=partial(_labels, Path(root) / file),
        )
        volume: Volume | None = None
        for found in iter_objects(case, smallest=smallest, per_case=per_file, group=group):
            volume = volume or case.read_image()
            yield StudyObject(file, found.object, group, volume, found.mask)


def _image(path: Path) -> Volume:
    with np.load(path) as data:
        return Volume.from_array(data["image"], [float(s) for s in data["spacing"]])


def _labels(path: Path) -> NDArray[np.integer]:
    with np.load(path) as data:
        return data["label"]
