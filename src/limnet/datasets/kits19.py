"""KiTS19: kidneys and kidney tumours on 210 contrast CTs with public labels (300 images in all).

Layout as made by the starter repository (the root may be `data` or the folder above)::

    data/kits.json                                one entry a case, key case_id
    data/case_00000/imaging.nii.gz                case_00000 .. case_00299
    data/case_00000/segmentation.nii.gz           case_00000 .. case_00209 alone

The arrays are stored (slices, height, width): slices on the FIRST axis of nibabel's order, axis codes I, P, L in all
210 files, so a reader that takes the last axis for slices, or SimpleITK's first, cuts sagittally. limnet goes by the
affine and turns every volume so that axis 0 runs from feet to head. In plane 512 x 512 but for case_00160 (252 slices
of 512 x 796). Masks are uint8, in nine cases uint16. Labels of cases 15, 23, 37 and 125 were corrected after the
release: which version a folder holds cannot be told from its names.

Split: the one shipped with Mem3D, 168 cases to train and 42 held out ("val" here, "test" there), by number.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent
from limnet.datasets.nifti_pairs import NiftiPair, NiftiPairs, either
from limnet.errors import LimnetError
from limnet.image.io.nifti import read_nifti_grid

LABELLED = 210
HELD_OUT = frozenset(
    (
        *(2, 7, 13, 16, 22, 28, 32, 37, 43, 46, 53, 57, 64, 69, 72, 78, 85, 89, 94, 98),
        *(102, 107, 112, 119, 121, 127, 134, 136, 145, 148, 152, 158, 163, 168, 173, 178, 184, 189, 194, 198),
        *(202, 208),
    )
)


class Kits19Dataset(NiftiPairs):
    """KiTS19. Case names are the folders': "case_00000", one patient each."""

    title = "KiTS19"
    licence = "CC BY-NC-SA 4.0"
    access = "free: clone https://github.com/neheller/kits19 (labels) and run its starter script for the images"
    layout = (
        "data/kits.json\ndata/case_00000/imaging.nii.gz\ndata/case_00000/segmentation.nii.gz\n"
        "(case_00000 .. case_00209 with labels)"
    )
    splits = ("train", "val")
    labels: ClassVar[dict[int, str]] = {1: "kidney", 2: "kidney tumour"}
    windows: ClassVar[dict[str, tuple[float, float]]] = {"ct": (-79.0, 304.0)}
    includes: ClassVar[dict[int, tuple[int, ...]]] = {1: (2,)}  # the organ is the kidney with its tumour

    def find(self) -> None:
        """Look for case folders in the root or in `data` below it."""
        self.base = self.root / "data" if (self.root / "data").is_dir() else self.root
        if not any(
            (folder / "segmentation.nii").is_file() or (folder / "segmentation.nii.gz").is_file()
            for folder in self._folders()
        ):
            raise self.missing(f"there is no case_#####/segmentation.nii.gz in {self.root}")

    def pairs(self) -> list[NiftiPair]:
        """Cases 0..209, and later ones that have labels all the same."""
        found = []
        for folder in self._folders():
            image, label = either(folder, "imaging"), either(folder, "segmentation")
            if number_of(folder.name) < LABELLED or label.is_file():
                found.append(NiftiPair(folder.name, folder.name, "ct", image, label))
        return found

    def split_of(self, case: LabelledCase) -> str | None:
        """Mem3D's lists."""
        return "val" if number_of(case.name) in HELD_OUT else "train"

    def check_files(self) -> list[Problem]:
        """Numbers of kits.json or, without it, 0..209; slices on the first stored axis."""
        pairs = self.pairs()
        wanted, source = {f"case_{number:05d}" for number in range(LABELLED)}, "the 210 published cases"
        try:
            entries = json.loads((self.base / "kits.json").read_text(encoding="utf-8"))
            listed = {str(entry["case_id"]) for entry in entries}
            wanted, source = {name for name in listed if number_of(name) < LABELLED}, "kits.json"
        except (OSError, ValueError, KeyError, TypeError):
            pass
        problems = absent(wanted, {p.name for p in pairs if number_of(p.name) < LABELLED}, source, self.access)
        for pair in pairs:
            if pair.image.is_file() and (codes := self._codes(pair)) and codes[0] not in "IS":
                what = f"axis codes are {''.join(codes)}, so slices are not on the first stored axis; released are IPL"
                advice = (
                    "this file was saved anew; limnet goes by its affine: compare it in a viewer, or download it again"
                )
                problems.append(Problem(pair.name, what, advice))
        return problems

    def _codes(self, pair: NiftiPair) -> tuple[str, ...] | None:
        import nibabel

        try:
            return nibabel.aff2axcodes(read_nifti_grid(pair.image).affine)
        except (LimnetError, OSError):
            return None

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.base.iterdir() if p.is_dir() and re.fullmatch(r"case_\d{5}", p.name))


def number_of(name: str) -> int:
    """Number of a case: case_00042 -> 42; -1 for another name."""
    match = re.fullmatch(r"case_(\d{5})", name)
    return int(match[1]) if match else -1


class Kits19DataModule(CaseDataModule):
    """Training clips and whole cases of KiTS19."""

    dataset_class = Kits19Dataset
