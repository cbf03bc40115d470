"""DAVIS-585: 585 objects in frames of the 30 validation films of DAVIS 2017, with flawed masks to start from.

Layout of FocalClick's release (the root holds the films, or one folder that does)::

    <film>/00075.jpg
    <film>/object1_00075.png                 the object, three equal channels, above 128
    <film>/init_stm_object1_00075.png        a flawed mask made by a video network
    <film>/init_sp_object1_00075.png         a flawed mask of IoU 0.75 to 0.85 made with superpixels

K of objectK is the rank of the object in that frame, not its DAVIS number. A case is one object of one frame:
"bike-packing_00075_object1".

Three modes start from: nothing ("zero"), the video network's mask ("stm"), the superpixel mask ("sp"); `initial` reads
them. Splits: there is none; the set was made as a benchmark, but LIM-Net trains on it. With protocol "clean" films are
divided into train and val by a hash, with "benchmark" all 585 are "test", with "paper" (Table III of LIM-Net) all 585
are both "train" and "test".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, Problem, split_patients
from limnet.data.module import CaseDataModule
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files, read_objects
from limnet.errors import InputError

OBJECTS = 585
MODES = ("zero", "stm", "sp")
PROTOCOLS = ("clean", "benchmark", "paper")
_MASK = re.compile(r"(object\d+)_(\d+)")


class Davis585Dataset(PictureSet):
    """DAVIS-585; label 1 is the object.

    Args:
        root: see the layout.
        fraction: share of films held out with protocol "clean".
        seed: of that split.
        protocol: "clean" (train and val), "benchmark" (test) or "paper" (the same 585 in train and in test).

    Raises:
        InputError: another protocol.
        MissingFileError: the folder does not look like it.
    """

    title = "DAVIS-585"
    licence = "terms of DAVIS (research)"
    access = "free download, link in the README of https://github.com/XavierCHEN34/ClickSEG"
    layout = "bike-packing/00075.jpg\nbike-packing/object1_00075.png\nbike-packing/init_stm_object1_00075.png"
    splits = ("train", "val", "test")

    def __init__(
        self,
        root: Path | str,
        fraction: float = 0.2,
        seed: int = 0,
        protocol: Literal["clean", "benchmark", "paper"] = "clean",
    ) -> None:
        if protocol not in PROTOCOLS:
            raise InputError(f"protocol is {protocol!r}; allowed are {', '.join(PROTOCOLS)}")
        self.protocol = protocol
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for films in the root or in the first folder below it that holds some."""
        inside = [p for p in sorted(self.root.iterdir()) if p.is_dir() and not p.name.startswith((".", "__"))]
        self.base = next((p for p in (self.root, *inside) if next(_films(p), None)), self.root)
        films = [film.name for film in _films(self.base)]
        if not films:
            raise self.missing(f"there is no film with object#_#####.png in {self.root}")
        self._split = split_patients(films, ("train", "val"), self.fraction, self.seed)

    def pictures(self) -> list[Picture]:
        """A case for each object of each frame."""
        found = []
        for film in _films(self.base):
            frames, masks = picture_files(film, ".jpg", ".jpeg"), picture_files(film, ".png")
            for stem, mask in masks.items():
                if match := _MASK.fullmatch(stem):
                    frame = frames.get(match[2], film / f"{match[2]}.jpg")
                    found.append(Picture(case_name(film.name, match[2], match[1]), film.name, frame, (mask,)))
        return sorted(found, key=lambda picture: picture.name)

    def split_of(self, case: LabelledCase) -> str | None:
        """By the protocol."""
        if self.protocol == "clean":
            return self._split[case.patient]
        return "test" if self.protocol == "benchmark" else "train"

    def cases(self, split: str) -> list[LabelledCase]:
        """Cases of a split; with protocol "paper" the test set is the training set."""
        return super().cases("train" if (self.protocol, split) == ("paper", "test") else split)

    def initial(self, case: LabelledCase, mode: str) -> NDArray[np.uint8]:
        """The mask that interaction starts from.

        Args:
            case: one of this data set.
            mode: "zero", "stm" or "sp".

        Returns:
            uint8 (1, H, W), 0 and 1; all 0 for "zero".

        Raises:
            InputError: another mode.
            MissingFileError: that mask is not there.
        """
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}; allowed are {', '.join(MODES)}")
        frame, name = case.name.split("_")[-2:]
        if mode == "zero":
            return np.zeros_like(case.read_labels(), np.uint8)
        return read_objects((self.base / case.patient / f"init_{mode}_{name}_{frame}.png",), self.above)

    def check_files(self) -> list[Problem]:
        """585 objects, each with both flawed masks."""
        pictures = self.pictures()
        problems = []
        if len(pictures) != OBJECTS:
            problems.append(Problem("", f"{len(pictures)} objects, published are {OBJECTS}", f"get it: {self.access}"))
        for picture in pictures:
            for mode in MODES[1:]:
                path = picture.masks[0].with_name(f"init_{mode}_{picture.masks[0].name}")
                if not path.is_file():
                    what = f"there is no {self.short(path)}"
                    problems.append(Problem(picture.name, what, f"mode {mode} needs it: unpack the archive again"))
        return problems


def _films(folder: Path) -> Iterator[Path]:
    """Folders of a folder that hold masks of objects."""
    for film in sorted(folder.iterdir()):
        hidden = not film.is_dir() or film.name.startswith((".", "__"))
        if not hidden and any(_MASK.fullmatch(path.stem) for path in film.glob("object*.png")):
            yield film


class Davis585DataModule(CaseDataModule):
    """Training clips and whole cases of DAVIS-585."""

    dataset_class = Davis585Dataset
