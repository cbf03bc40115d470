"""SBD: the semantic boundaries set, 11,355 pictures of Pascal VOC with every object outlined.

Layout as its owner ships it (the root may be `benchmark_RELEASE`, its `dataset` folder, or the folder above)::

    benchmark_RELEASE/dataset/img/2008_000002.jpg
    benchmark_RELEASE/dataset/inst/2008_000002.mat     GTinst: Segmentation (H, W) 0, 1, 2, ...; Categories; Boundaries
    benchmark_RELEASE/dataset/train.txt                8,498 names, one a line
    benchmark_RELEASE/dataset/val.txt                  2,857 names

Splits: the owner's lists. Labels number the instances of a picture; the classes stand in the .mat files (`categories`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.cache import smallest_unsigned
from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent, read_text
from limnet.datasets.instances import InstanceNames
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files
from limnet.errors import FileFormatError, MissingFileError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor"),
)
_OBJECTS = InstanceNames(("object", 1, 254))


class SbdDataset(PictureSet):
    """SBD; every instance is a label."""

    title = "SBD (semantic boundaries)"
    licence = "annotations for research, pictures under the terms of Flickr (Pascal VOC)"
    access = "free download of benchmark.tgz from http://home.bharathh.info/pubs/codes/SBD/download.html"
    layout = (
        "benchmark_RELEASE/dataset/img/2008_000002.jpg\nbenchmark_RELEASE/dataset/inst/2008_000002.mat\n"
        "benchmark_RELEASE/dataset/train.txt\nbenchmark_RELEASE/dataset/val.txt"
    )
    splits = ("train", "val")

    def find(self) -> None:
        """Look for img and inst, and read the lists."""
        self.base = self.first_folder(
            "inst", "dataset/inst", "benchmark_RELEASE/dataset/inst", "SBD/dataset/inst"
        ).parent
        if not (self.base / "img").is_dir():
            raise self.missing(f"there is no img in {self.base}")
        self.listed: dict[str, str] = {}
        for split in self.splits:
            path = self.base / f"{split}.txt"
            if not path.is_file():
                raise self.missing(f"there is no {split}.txt in {self.base}")
            names = read_text(path).split()
            self.listed |= {case_name(name): split for name in names}

    def pictures(self) -> list[Picture]:
        """Pictures and .mat files of the same stem."""
        images = picture_files(self.base / "img", ".jpg")
        files = {p.stem: p for p in (self.base / "inst").iterdir() if p.suffix == ".mat" and not p.name.startswith(".")}
        return [
            Picture(
                case_name(stem),
                stem,
                images.get(stem, self.base / "img" / f"{stem}.jpg"),
                (files.get(stem, self.base / "inst" / f"{stem}.mat"),),
                _OBJECTS,
            )
            for stem in sorted({*images, *files})
        ]

    def split_of(self, case: LabelledCase) -> str | None:
        """By the lists; what they do not name belongs to no split."""
        return self.listed.get(case.name)

    def labels_of(self, picture: Picture) -> Callable[[], NDArray[Any]]:
        """Segmentation of the .mat file."""
        return partial(read_instances, picture.masks[0])

    def check_files(self) -> list[Problem]:
        """Names of the lists."""
        return absent(self.listed, {p.name for p in self.pictures()}, "train.txt and val.txt", self.access, used=False)


def read_instances(path: Path) -> NDArray[Any]:
    """Instances of a picture, unsigned (1, H, W).

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, or without GTinst.
    """
    found = _gtinst(path)["Segmentation"]
    if found.ndim != 2 or found.dtype.kind not in "iu":
        raise FileFormatError(f"{path} holds a Segmentation of {found.dtype} {found.shape}; expected (H, W) numbers")
    return smallest_unsigned(found[None])


def categories(path: Path) -> dict[int, str]:
    """Instance -> class of a .mat file.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, or a class that does not exist.
    """
    numbers = np.asarray(_gtinst(path)["Categories"]).ravel()
    if any(not 1 <= n <= len(CLASSES) for n in numbers):
        raise FileFormatError(f"{path} names classes {numbers.tolist()}; they are 1..{len(CLASSES)}. Download it again")
    return {k: CLASSES[int(n) - 1] for k, n in enumerate(numbers, 1)}


def _gtinst(path: Path) -> Any:
    from scipy.io import loadmat

    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; check the path")
    try:
        record = loadmat(path)["GTinst"][0, 0]
        return {name: record[name] for name in ("Segmentation", "Categories")}
    except Exception as error:  # a damaged .mat file raises almost anything
        detail = f"{type(error).__name__}: {error}"
        raise FileFormatError(f"{path} holds no readable GTinst ({detail}). Download it again") from error


class SbdDataModule(CaseDataModule):
    """Training clips and whole cases of SBD."""

    dataset_class = SbdDataset
