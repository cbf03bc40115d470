"""AMOS22: 15 abdominal organs on 300 CT and 60 MR volumes with public labels.

Layout as unpacked from Zenodo 7155725 or 7262581 (the root may also be the folder above)::

    amos22/dataset.json                   lists {image, label}; `labels` spells the aorta "arota"
    amos22/imagesTr/amos_0001.nii.gz      200 CT + 40 MR, names sparse
    amos22/labelsTr/amos_0001.nii.gz
    amos22/imagesVa/, amos22/labelsVa/    100 CT + 20 MR
    amos22/imagesTs/                      labels are hidden; a labelsTs folder is used when there is one

Modality by number: below 500 CT, 500..600 MR, from 5000 the extra unlabelled CT. Orientation varies from file to file;
volumes are turned so that slices run from feet to head (MR with thick slices of another plane: along these). CT padding
may lie at -3024 HU and metal above 20,000. Splits are the owner's: Tr is "train", Va is "val", on which papers
report, and Ts is "test", empty without labelsTs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, ClassVar

from limnet.data.dataset import CaseFiles, Problem, numbered
from limnet.data.files import NIFTI, by_stem, read_json
from limnet.data.module import data_module
from limnet.data.nifti import NiftiDataset, either
from limnet.errors import LimnetError

_FOLDERS = {"train": "Tr", "val": "Va", "test": "Ts"}
_LABELLED = {"train": 240, "val": 120}


class Amos22Dataset(NiftiDataset):
    """AMOS22, CT and MR together. Case names are those of the files: "amos_0001", one patient each."""

    title = "AMOS22"
    licence = "CC BY 4.0 on Zenodo (a variant on the paper's page: CC BY-NC)"
    access = "free download, Zenodo record 7262581 (https://zenodo.org/records/7262581), unpack amos22.zip"
    splits = ("train", "val", "test")
    labels: ClassVar = numbered(
        "spleen, right kidney, left kidney, gall bladder, esophagus, liver, stomach, aorta, "
        "inferior vena cava, pancreas, right adrenal gland, left adrenal gland, duodenum, bladder, "
        "prostate or uterus"
    )
    windows: ClassVar = {"ct": (-160.0, 240.0)}
    plane = "acquired"
    modalities: ClassVar[tuple[str, ...]] = ("ct", "mr")

    def list_files(self) -> Iterable[CaseFiles]:
        """Pairs of Tr, Va and, where labels are there, Ts, in the root or in amos22 below it."""
        self.base = self.root if (self.root / "imagesTr").is_dir() else self.root / "amos22"
        for name in ("imagesTr", "labelsTr"):
            if not (self.base / name).is_dir():
                raise self.missing(f"there is no {name} in {self.root}")
        for split, end in _FOLDERS.items():
            images, labels = self.base / f"images{end}", self.base / f"labels{end}"
            for stem in sorted({*by_stem(labels, *NIFTI), *(by_stem(images, *NIFTI) if split != "test" else ())}):
                if self._is_ours(stem):
                    yield CaseFiles(stem, stem, either(images, stem), (either(labels, stem),), _modality(stem), split)

    def check_files(self) -> list[Problem]:
        """Names, and the lists of dataset.json or, without it, the published numbers of cases."""
        problems = []
        for folder in (self.base / f"{kind}{_FOLDERS[split]}" for split in _LABELLED for kind in ("images", "labels")):
            for stem, path in by_stem(folder, *NIFTI).items():
                if not _modality(stem):
                    problems.append(Problem(self.short(path), "is not called amos_####", "it is left out; rename it"))
        there = {split: [files.name for files in self.files if files.split == split] for split in _LABELLED}
        try:
            content = read_json(self.base / "dataset.json")
            entries: list[Any] = [entry for key in ("training", "validation") for entry in content.get(key) or []]
            images = [PurePosixPath(entry["image"] if isinstance(entry, dict) else entry).name for entry in entries]
        except (LimnetError, AttributeError, KeyError, TypeError):
            problems.append(
                Problem("", f"there is no readable dataset.json in {self.base}", "copy it from the archive")
            )
            for split, number in _LABELLED.items():
                if len(there[split]) != number:
                    what = f"{len(there[split])} cases in images{_FOLDERS[split]} and labels{_FOLDERS[split]}"
                    problems.append(Problem("", f"{what}, published are {number}", self.access))
            return problems
        listed = {name.removesuffix(".gz").removesuffix(".nii") for name in images}
        return problems + self.compare(filter(self._is_ours, listed), there["train"] + there["val"], "dataset.json")

    def _is_ours(self, stem: str) -> bool:
        return _modality(stem) in self.modalities


class Amos22CtDataset(Amos22Dataset):
    """The CT half of AMOS22."""

    title = "AMOS22 CT"
    modalities = ("ct",)


class Amos22MrDataset(Amos22Dataset):
    """The MR part of AMOS22; bladder and prostate or uterus are often not labelled."""

    title = "AMOS22 MR"
    modalities = ("mr",)


def _modality(stem: str) -> str:
    """CT or MR by the number in a file's name; "" for another name."""
    if not re.fullmatch(r"amos_\d{4}", stem):
        return ""
    return "mr" if 500 <= int(stem[5:]) < 5000 else "ct"


Amos22DataModule = data_module(Amos22Dataset)
Amos22CtDataModule = data_module(Amos22CtDataset)
Amos22MrDataModule = data_module(Amos22MrDataset)
