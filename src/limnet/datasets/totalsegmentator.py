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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset, Problem, split_patients
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent
from limnet.datasets.nifti_pairs import check_intensities, compare_grids, either, nifti_files, read_image, whole_numbers
from limnet.datasets.orientation import display_axes, reorient
from limnet.errors import FileFormatError, InputError, LimnetError
from limnet.image.io.nifti import nifti_slabs, read_nifti_grid

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


class TotalSegmentatorDataset(LabelledDataset):
    """TotalSegmentator v2 CT. Case names are the folders': "s0000", one patient each.

    Args:
        root: see the layout.
        fraction: held out for each of val and test where there is no meta.csv.
        seed: of that split.
        structures: names to read; all 117 by default. Reading a case takes time in proportion.

    Raises:
        InputError: an unknown structure.
        MissingFileError: the folder does not look like TotalSegmentator.
    """

    title = "TotalSegmentator v2"
    licence = "CC BY 4.0"
    access = "free download, Zenodo record 10047292 (https://zenodo.org/records/10047292)"
    layout = "meta.csv\ns0000/ct.nii.gz\ns0000/segmentations/spleen.nii.gz (one file for each of 117 structures)"
    splits = ("train", "val", "test")
    window: ClassVar[tuple[float, float]] = (-160.0, 240.0)

    def __init__(
        self, root: Path | str, fraction: float = 0.1, seed: int = 0, structures: Sequence[str] | None = None
    ) -> None:
        self.structures = STRUCTURES if structures is None else tuple(structures)
        if unknown := [name for name in self.structures if name not in IDS]:
            raise InputError(f"structures {unknown} are unknown; allowed are {', '.join(STRUCTURES)}")
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for subjects in the root or in the only folder below it that holds some; read meta.csv."""
        inside = [p for p in sorted(self.root.iterdir()) if p.is_dir() and not p.name.startswith((".", "__"))]
        self.base = next((p for p in (self.root, *inside) if _subjects(p)), self.root)
        if not _subjects(self.base):
            raise self.missing(f"there is no s####/ct.nii.gz in {self.root}")
        self.listed = _read_meta(self.base / "meta.csv")
        names = [folder.name for folder in _subjects(self.base)]
        self._split = self.listed or split_patients(names, self.splits, self.fraction, self.seed)

    def all_cases(self) -> list[LabelledCase]:
        """Subjects that have a CT and a folder of segmentations."""
        labels = {IDS[name]: name for name in self.structures}
        chosen = None if self.structures == STRUCTURES else self.structures
        cases = []
        for folder in _subjects(self.base):
            image, inside = either(folder, "ct"), folder / "segmentations"
            if inside.is_dir():
                read = partial(read_image, image, "ct"), partial(read_structures, inside, image, chosen)
                cases.append(LabelledCase(folder.name, folder.name, "ct", labels, *read, self.window))
        return cases

    def split_of(self, case: LabelledCase) -> str | None:
        """By meta.csv; a subject it does not list belongs to no split."""
        return self._split.get(case.name)

    def check(self) -> list[Problem]:
        """Subjects of meta.csv, then every file of every subject, slab by slab."""
        problems = []
        there = [folder.name for folder in _subjects(self.base)]
        if self.listed is None:
            what = f"there is no readable meta.csv in {self.base}: the published split is not known"
            problems.append(Problem("", what, "copy it from the archive; until then patients are split by a hash"))
        else:
            problems += absent(self.listed, there, "meta.csv", self.access, used=False)
            if odd := sorted({split for split in self.listed.values() if split not in self.splits}):
                problems.append(Problem("", f"meta.csv names splits {odd}", f"expected are {', '.join(self.splits)}"))
        for folder in _subjects(self.base):
            problems += [Problem(folder.name, what, advice) for what, advice in self._check_subject(folder)]
        return problems

    def _check_subject(self, folder: Path) -> list[tuple[str, str]]:
        image = either(folder, "ct")
        try:
            grid = read_nifti_grid(image)
            problems = check_intensities(image)
        except (LimnetError, OSError) as error:
            return [(str(error), "copy or download it again")]
        files = nifti_files(folder / "segmentations")
        if unknown := sorted(set(files) - set(STRUCTURES)):
            what = f"segmentations holds {len(unknown)} files of no v2 structure, such as {unknown[:3]}"
            problems.append((what, "version 1 has other names: get version 2"))
        if lost := [name for name in self.structures if name not in files]:
            what = f"{len(lost)} of {len(self.structures)} structures have no file, such as {lost[:3]}"
            problems.append((what, "unpack the archive again; they are taken as absent"))
        labelled = False
        for name in self.structures:
            if (path := files.get(name)) is None:
                continue
            try:
                problems += [(f"{name}: {what}", advice) for what, advice in compare_grids(grid, read_nifti_grid(path))]
                highest = max(int(whole_numbers(slab, path).max(initial=0)) for _, slab in nifti_slabs(path))
            except (LimnetError, OSError) as error:
                problems.append((str(error), "copy or download it again"))
                continue
            labelled = labelled or highest > 0
            if highest > 1:
                problems.append((f"{name} holds values up to {highest}", "expected are 0 and 1: download it again"))
        if files and not labelled:
            problems.append(("no voxel is labelled", "copy the labels again, or take the subject out"))
        return problems


def read_structures(folder: Path, image: Path, structures: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Combine the files of a subject into one label map, uint8 (D, H, W), slices from feet to head.

    Args:
        folder: with one binary file per structure; a structure without a file is absent.
        image: the CT, whose grid counts.
        structures: names to combine; None for all.

    Raises:
        FileFormatError: a damaged file, one of another shape, or one that holds fractions.
    """
    grid, files = read_nifti_grid(image), nifti_files(folder)
    labels: NDArray[Any] = np.zeros(grid.shape, np.uint8)
    for name in STRUCTURES if structures is None else sorted(structures, key=IDS.__getitem__):
        if (path := files.get(name)) is None:
            continue
        stop = 0
        for start, slab in nifti_slabs(path):
            stop = start + len(slab)
            if slab.shape[1:] != grid.shape[1:] or stop > grid.shape[0]:
                break
            labels[start:stop][whole_numbers(slab, path) > 0] = IDS[name]
        if slab.shape[1:] != grid.shape[1:] or stop != grid.shape[0]:
            shape = read_nifti_grid(path).shape
            raise FileFormatError(f"{path} is {shape}, the CT {grid.shape} (slices, rows, columns). Download it again")
    return reorient(labels, grid.affine, display_axes(grid.affine, "axial"))[0]


def _subjects(folder: Path) -> list[Path]:
    """Subject folders with a CT, sorted."""
    named = (p for p in folder.iterdir() if re.fullmatch(r"s\d{4}", p.name)) if folder.is_dir() else ()
    return sorted(p for p in named if either(p, "ct").is_file())


def _read_meta(path: Path) -> dict[str, str] | None:
    """Subject -> split, or None if the file is not there or has other columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=";")
            return {row["image_id"].strip(): row["split"].strip() for row in rows} or None
    except (OSError, KeyError, UnicodeDecodeError, csv.Error, AttributeError):
        return None


class TotalSegmentatorDataModule(CaseDataModule):
    """Training clips and whole cases of TotalSegmentator."""

    dataset_class = TotalSegmentatorDataset
