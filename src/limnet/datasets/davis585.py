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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import BY_HASH, CaseFiles, LabelledCase, Problem
from limnet.data.files import by_stem, case_name, folders_in
from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset, read_objects
from limnet.errors import InputError

OBJECTS = 585
MODES = ("zero", "stm", "sp")
PROTOCOLS = {"clean": BY_HASH, "benchmark": "test", "paper": "train"}
"""Protocol -> split of all cases; with "paper" the test set is the training set."""
_MASK = re.compile(r"(object\d+)_(\d+)")


@dataclass(eq=False, repr=False)
class Davis585Dataset(PictureDataset):
    """DAVIS-585, by a `protocol` of `PROTOCOLS`; label 1 is the object."""

    title = "DAVIS-585"
    licence = "terms of DAVIS (research)"
    access = "free download, link in the README of https://github.com/XavierCHEN34/ClickSEG"
    splits = ("train", "val", "test")
    hashed = ("train", "val")
    published, unit = OBJECTS, "objects"
    choices: ClassVar = {"protocol": tuple(PROTOCOLS)}
    protocol: Literal["clean", "benchmark", "paper"] = "clean"

    def list_files(self) -> Iterable[CaseFiles]:
        """A case for each object of each frame, in the root or in the first folder below it that holds films."""
        self.base = next((p for p in (self.root, *folders_in(self.root)) if _films(p)), self.root)
        found = []
        for film in _films(self.base):
            frames = by_stem(film, ".jpg", ".jpeg")
            for stem, mask in by_stem(film, ".png").items():
                if match := _MASK.fullmatch(stem):
                    frame = frames.get(match[2], film / f"{match[2]}.jpg")
                    name, split = case_name(film.name, match[2], match[1]), PROTOCOLS[self.protocol]
                    found.append(CaseFiles(name, film.name, frame, (mask,), "photo", split))
        if not found:
            raise self.missing(f"there is no film with object#_#####.png in {self.root}")
        return sorted(found, key=lambda files: files.name)

    def cases(self, split: str) -> list[LabelledCase]:
        """Cases of a split; with protocol "paper" the test set is the training set."""
        return super().cases("train" if (self.protocol, split) == ("paper", "test") else split)

    def initial(self, case: LabelledCase, mode: str) -> NDArray[np.uint8]:
        """The mask that interaction starts from in a mode of `MODES`, uint8 (1, H, W), 0 and 1; all 0 for "zero"."""
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}; allowed are {', '.join(MODES)}")
        frame, name = case.name.split("_")[-2:]
        if mode == "zero":
            return np.zeros_like(case.read_labels(), np.uint8)
        return read_objects((self.base / case.patient / f"init_{mode}_{name}_{frame}.png",), self.above)

    def check_files(self) -> list[Problem]:
        """585 objects, each with both flawed masks."""
        problems = super().check_files()
        for files in self.files:
            for mode in MODES[1:]:
                path = files.masks[0].with_name(f"init_{mode}_{files.masks[0].name}")
                if not path.is_file():
                    advice = f"mode {mode} needs it: unpack the archive again"
                    problems.append(Problem(files.name, f"there is no {self.short(path)}", advice))
        return problems


def _films(folder: Path) -> list[Path]:
    """Folders of a folder that hold masks of objects."""
    return [film for film in folders_in(folder) if any(_MASK.fullmatch(p.stem) for p in film.glob("object*.png"))]


Davis585DataModule = data_module(Davis585Dataset)
