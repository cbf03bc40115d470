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
from typing import ClassVar

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent, listed_in_json
from limnet.datasets.nifti_pairs import NiftiPair, NiftiPairs, either, nifti_files
from limnet.datasets.orientation import Plane

_FOLDERS = {"train": "Tr", "val": "Va", "test": "Ts"}
_LABELLED = {"Tr": 240, "Va": 120}


class Amos22Dataset(NiftiPairs):
    """AMOS22, CT and MR together. Case names are those of the files: "amos_0001", one patient each."""

    title = "AMOS22"
    licence = "CC BY 4.0 on Zenodo (a variant on the paper's page: CC BY-NC)"
    access = "free download, Zenodo record 7262581 (https://zenodo.org/records/7262581), unpack amos22.zip"
    layout = (
        "amos22/dataset.json\namos22/imagesTr/amos_0001.nii.gz\namos22/labelsTr/amos_0001.nii.gz\n"
        "amos22/imagesVa/amos_0008.nii.gz\namos22/labelsVa/amos_0008.nii.gz"
    )
    splits = ("train", "val", "test")
    labels: ClassVar[dict[int, str]] = {
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gall bladder",
        5: "esophagus",
        6: "liver",
        7: "stomach",
        8: "aorta",
        9: "inferior vena cava",
        10: "pancreas",
        11: "right adrenal gland",
        12: "left adrenal gland",
        13: "duodenum",
        14: "bladder",
        15: "prostate or uterus",
    }
    windows: ClassVar[dict[str, tuple[float, float]]] = {"ct": (-160.0, 240.0)}
    plane: ClassVar[Plane] = "acquired"
    modalities: ClassVar[tuple[str, ...]] = ("ct", "mr")

    def find(self) -> None:
        """Look for imagesTr and labelsTr in the root or in amos22 below it."""
        self.base = self.root if (self.root / "imagesTr").is_dir() else self.root / "amos22"
        for name in ("imagesTr", "labelsTr"):
            if not (self.base / name).is_dir():
                raise self.missing(f"there is no {name} in {self.root}")
        self._split = {stem: split for split, end in _FOLDERS.items() for stem in self._stems(end)}

    def pairs(self) -> list[NiftiPair]:
        """Pairs of Tr, Va and, where labels are there, Ts."""
        found = []
        for end in _FOLDERS.values():
            for stem in self._stems(end):
                modality = modality_of(int(stem[5:]))
                if modality in self.modalities:
                    images, labels = self.base / f"images{end}", self.base / f"labels{end}"
                    found.append(NiftiPair(stem, stem, modality, either(images, stem), either(labels, stem)))
        return found

    def split_of(self, case: LabelledCase) -> str | None:
        """By the folder the file lies in."""
        return self._split.get(case.name)

    def check_files(self) -> list[Problem]:
        """Names, and the lists of dataset.json or, without it, the published numbers of cases."""
        problems = []
        for folder in sorted(self.base.glob("*Tr")) + sorted(self.base.glob("*Va")):
            for stem, path in nifti_files(folder).items():
                if not re.fullmatch(r"amos_\d{4}", stem):
                    problems.append(Problem(self.short(path), "is not called amos_####", "it is left out; rename it"))
        listed = listed_in_json(self.base / "dataset.json", ("training", "validation"))
        if listed is not None:
            there = {s for end in _LABELLED for s in self._stems(end) if modality_of(int(s[5:])) in self.modalities}
            wanted = {
                s for s in listed if re.fullmatch(r"amos_\d{4}", s) and modality_of(int(s[5:])) in self.modalities
            }
            return problems + absent(wanted, there, "dataset.json", self.access)
        problems.append(Problem("", f"there is no readable dataset.json in {self.base}", "copy it from the archive"))
        for end, count in _LABELLED.items():
            if (number := len(self._stems(end))) != count:
                problems.append(
                    Problem("", f"{number} cases in images{end} and labels{end}, published are {count}", self.access)
                )
        return problems

    def _stems(self, end: str) -> list[str]:
        labelled = nifti_files(self.base / f"labels{end}")
        imaged = nifti_files(self.base / f"images{end}") if end != "Ts" else {}
        return sorted(stem for stem in {*labelled, *imaged} if re.fullmatch(r"amos_\d{4}", stem))


class Amos22CtDataset(Amos22Dataset):
    """The CT half of AMOS22."""

    title = "AMOS22 CT"
    modalities = ("ct",)


class Amos22MrDataset(Amos22Dataset):
    """The MR part of AMOS22; bladder and prostate or uterus are often not labelled."""

    title = "AMOS22 MR"
    modalities = ("mr",)


def modality_of(number: int) -> str:
    """CT or MR by the number in the file's name."""
    return "mr" if 500 <= number < 5000 else "ct"


class Amos22DataModule(CaseDataModule):
    """Training clips and whole cases of AMOS22."""

    dataset_class = Amos22Dataset


class Amos22CtDataModule(CaseDataModule):
    """Training clips and whole cases of AMOS22, CT alone."""

    dataset_class = Amos22CtDataset


class Amos22MrDataModule(CaseDataModule):
    """Training clips and whole cases of AMOS22, MR alone."""

    dataset_class = Amos22MrDataset
