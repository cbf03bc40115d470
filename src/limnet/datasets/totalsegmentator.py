"""TotalSegmentator v2: 117 structures on 1,228 CTs of the whole body, one file per structure.

Layout as unpacked from Zenodo 10047292 (the root holds the subjects, or one folder that does)::

    meta.csv                                      ';' between columns: image_id, split (train / val / test), ...
    s0000/ct.nii.gz                               1.5 mm isotropic
    s0000/segmentations/spleen.nii.gz             117 binary files; all zero where a structure is absent

The files of a subject are combined into one label map when a case is read, one file after the other, slab by slab. Ids
are those of the v2 class list (v1 had 104 classes in another order); where two structures overlap, the higher id stays.
Splits are meta.csv's (1082 / 57 / 89); without that file patients are split by a hash. Known faults: s0864 of version
1 does not unpack; the first upload of version 2 had the wrong contrast in s0184, s0224, s0830 and s0864. Faces are
blurred, and some rotated images have labels in their padding.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from limnet.data.dataset import (
    BY_HASH,
    CaseFiles,
    Found,
    LabelledCase,
    Problem,
    check_intensities,
    compare_grids,
    noted,
)
from limnet.data.files import NIFTI, by_stem, folders_in, labels_in, read_labels
from limnet.data.module import data_module
from limnet.data.nifti import NiftiDataset, combine, either
from limnet.errors import InputError
from limnet.image.io.nifti import read_nifti_grid

_VERTEBRAE = ["S1", *(f"L{n}" for n in range(5, 0, -1)), *(f"T{n}" for n in range(12, 0, -1))]
_VERTEBRAE += [f"C{n}" for n in range(7, 0, -1)]
STRUCTURES: tuple[str, ...] = (
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus", "trachea"),
    *("thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate"),
    *("kidney_cyst_left", "kidney_cyst_right", "sacrum"),
    *(f"vertebrae_{name}" for name in _VERTEBRAE),
    *("heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk", "subclavian_artery_right"),
    *("subclavian_artery_left", "common_carotid_artery_right", "common_carotid_artery_left"),
    *("brachiocephalic_vein_left", "brachiocephalic_vein_right", "atrial_appendage_left", "superior_vena_cava"),
    *("inferior_vena_cava", "portal_vein_and_splenic_vein", "iliac_artery_left", "iliac_artery_right"),
    *("iliac_vena_left", "iliac_vena_right", "humerus_left", "humerus_right", "scapula_left", "scapula_right"),
    *("clavicula_left", "clavicula_right", "femur_left", "femur_right", "hip_left", "hip_right", "spinal_cord"),
    *("gluteus_maximus_left", "gluteus_maximus_right", "gluteus_medius_left", "gluteus_medius_right"),
    *("gluteus_minimus_left", "gluteus_minimus_right", "autochthon_left", "autochthon_right"),
    *("iliopsoas_left", "iliopsoas_right", "brain", "skull"),
    *(f"rib_left_{n}" for n in range(1, 13)),
    *(f"rib_right_{n}" for n in range(1, 13)),
    *("sternum", "costal_cartilages"),
)
IDS = {name: number for number, name in enumerate(STRUCTURES, 1)}


@dataclass(eq=False, repr=False)
class TotalSegmentatorDataset(NiftiDataset):
    """TotalSegmentator v2 CT. Case names are the folders': "s0000", one patient each.

    `structures` are all 117 by default; reading a case takes time in proportion.
    """

    title = "TotalSegmentator v2"
    licence = "CC BY 4.0"
    access = "free download, Zenodo record 10047292 (https://zenodo.org/records/10047292)"
    splits = ("train", "val", "test")
    windows: ClassVar = {"ct": (-160.0, 240.0)}
    fraction: float = 0.1
    structures: Sequence[str] = STRUCTURES

    def list_files(self) -> Iterable[CaseFiles]:
        """Subjects with a CT in the root or in the first folder below it that holds some; splits of meta.csv."""
        if unknown := [name for name in self.structures if name not in IDS]:
            raise InputError(f"structures {unknown} are unknown; allowed are {', '.join(STRUCTURES)}")
        self.ordered = tuple(sorted(self.structures, key=IDS.__getitem__))
        labels = {IDS[name]: name for name in self.ordered}
        self.base = next((p for p in (self.root, *folders_in(self.root)) if _subjects(p)), self.root)
        self.listed = _read_meta(self.base / "meta.csv")
        self.subjects = _subjects(self.base)
        if not self.subjects:
            raise self.missing(f"there is no s####/ct.nii.gz in {self.root}")
        for folder in self.subjects:
            split = BY_HASH if self.listed is None else self.listed.get(folder.name)
            image, masks = either(folder, "ct"), (folder / "segmentations",)
            yield CaseFiles(folder.name, folder.name, image, masks, "ct", split, labels)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """A partial of `read_structures`."""
        return partial(read_structures, files.masks[0], files.image, self.ordered)

    def check_files(self) -> list[Problem]:
        """Subjects of meta.csv."""
        if self.listed is None:
            what = f"there is no readable meta.csv in {self.base}: the published split is not known"
            return [Problem("", what, "copy it from the archive; until then patients are split by a hash")]
        problems = self.compare(self.listed, (folder.name for folder in self.subjects), "meta.csv", used=False)
        if odd := sorted(set(self.listed.values()) - set(self.splits)):
            problems.append(Problem("", f"meta.csv names splits {odd}", f"expected are {', '.join(self.splits)}"))
        return problems

    def check_case(self, case: LabelledCase) -> list[Problem]:
        """Every file of a subject."""
        segmentations, image = case.read_labels.args[:2]  # type: ignore[attr-defined]
        found: list[Found] = []
        grid, highest = None, dict[str, int]()
        with noted(found):
            grid = read_nifti_grid(image)
            found += check_intensities(case.read_image(), image)
        files = by_stem(segmentations, *NIFTI)
        if unknown := sorted(set(files) - set(STRUCTURES)):
            what = f"segmentations holds {len(unknown)} files of no v2 structure, such as {unknown[:3]}"
            found.append((what, "version 1 has other names: get version 2"))
        if lost := [name for name in self.structures if name not in files]:
            what = f"{len(lost)} of {len(self.structures)} structures have no file, such as {lost[:3]}"
            found.append((what, "unpack the archive again; they are taken as absent"))
        for name in filter(files.__contains__, self.structures):
            with noted(found):
                apart = [] if grid is None else compare_grids(grid, read_nifti_grid(files[name]))
                found += [(f"{name}: {what}", advice) for what, advice in apart]
                highest[name] = max(labels_in(read_labels(files[name])))
                if highest[name] > 1:
                    what = f"{name} holds values up to {highest[name]}"
                    found.append((what, "expected are 0 and 1: download it again"))
        if files and not any(highest.values()):
            found.append(("no voxel is labelled", "copy the labels again, or take it out"))
        return [Problem(case.name, *one) for one in found]


def read_structures(folder: Path, image: Path, structures: Sequence[str] = STRUCTURES) -> NDArray[Any]:
    """Combine the files of a subject into one label map, uint8 (D, H, W), slices from feet to head; see `combine`.

    Takes the names by ascending id; a structure without a file is absent. The grid is that of the CT.
    """
    files = by_stem(folder, *NIFTI)
    return combine({files[name]: IDS[name] for name in structures if name in files}, image)


def _subjects(folder: Path) -> list[Path]:
    """Subject folders with a CT, sorted."""
    return [p for p in folders_in(folder) if re.fullmatch(r"s\d{4}", p.name) and either(p, "ct").is_file()]


def _read_meta(path: Path) -> dict[str, str] | None:
    """Subject -> split, or None if the file is not there or has other columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=";")
            return {row["image_id"].strip(): row["split"].strip() for row in rows} or None
    except (OSError, KeyError, UnicodeDecodeError, csv.Error, AttributeError):
        return None


TotalSegmentatorDataModule = data_module(TotalSegmentatorDataset)
