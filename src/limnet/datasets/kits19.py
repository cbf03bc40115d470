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

import re
from collections.abc import Iterable
from typing import ClassVar

from limnet.data.dataset import CaseFiles, Problem
from limnet.data.files import folders_in, read_json
from limnet.data.module import data_module
from limnet.data.nifti import NiftiDataset, either
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


class Kits19Dataset(NiftiDataset):
    """KiTS19. Case names are the folders': "case_00000", one patient each."""

    title = "KiTS19"
    licence = "CC BY-NC-SA 4.0"
    access = "free: clone https://github.com/neheller/kits19 (labels) and run its starter script for the images"
    labels: ClassVar = {1: "kidney", 2: "kidney tumour"}
    windows: ClassVar = {"ct": (-79.0, 304.0)}
    includes: ClassVar = {1: (2,)}  # the organ is the kidney with its tumour

    def list_files(self) -> Iterable[CaseFiles]:
        """Cases 0..209, and later ones that have labels all the same, in the root or in `data` below it."""
        self.base = self.first_folder("data", "")
        found = {p: either(p, "segmentation") for p in folders_in(self.base) if re.fullmatch(r"case_\d{5}", p.name)}
        if not any(label.is_file() for label in found.values()):
            raise self.missing(f"there is no case_#####/segmentation.nii.gz in {self.root}")
        for folder, label in found.items():
            number = int(folder.name[5:])
            if number < LABELLED or label.is_file():
                split = "val" if number in HELD_OUT else "train"
                yield CaseFiles(folder.name, folder.name, either(folder, "imaging"), (label,), "ct", split)

    def check_files(self) -> list[Problem]:
        """Numbers of kits.json or, without it, 0..209; slices on the first stored axis."""
        import nibabel

        published = {f"case_{number:05d}" for number in range(LABELLED)}
        try:
            wanted = {str(entry["case_id"]) for entry in read_json(self.base / "kits.json")} & published
            source = "kits.json"
        except (LimnetError, KeyError, TypeError):
            wanted, source = published, "the 210 published cases"
        problems = self.compare(wanted, published.intersection(files.name for files in self.files), source)
        for files in self.files:
            try:
                codes = nibabel.aff2axcodes(read_nifti_grid(files.image).affine)
            except (LimnetError, OSError):
                continue  # told when the case is read
            if codes[0] not in "IS":
                what = f"axis codes are {''.join(codes)}, so slices are not on the first stored axis; released are IPL"
                advice = "this file was saved anew; limnet goes by its affine: compare it in a viewer"
                problems.append(Problem(files.name, what, f"{advice}, or download it again"))
        return problems


Kits19DataModule = data_module(Kits19Dataset)
