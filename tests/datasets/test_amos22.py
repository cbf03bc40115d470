from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np

from limnet.datasets.amos22 import Amos22CtDataset, Amos22Dataset, Amos22MrDataset
from tests.helpers.every_set import problems, told
from tests.helpers.fake_folders import change
from tests.helpers.fake_nifti import blocks, write_nifti

NAME = "amos22"


def names(dataset: Amos22Dataset, split: str) -> list[str]:
    return [case.name for case in dataset.cases(split)]


def test_splits_and_modalities(good: Path):
    both = Amos22Dataset(good.parent)
    assert names(both, "train") == ["amos_0001", "amos_0004", "amos_0007", "amos_0507", "amos_0555"]
    assert names(both, "val") == ["amos_0008", "amos_0600"]
    assert names(both, "test") == []  # labels are hidden
    assert [c.modality for c in both.all_cases()] == ["ct", "ct", "ct", "mr", "mr", "ct", "mr"]
    assert {c.window for c in both.all_cases() if c.modality == "mr"} == {None}
    ct, mr = Amos22CtDataset(good), Amos22MrDataset(good)
    assert names(ct, "train") == ["amos_0001", "amos_0004", "amos_0007"]
    assert names(mr, "train") == ["amos_0507", "amos_0555"]
    assert names(mr, "val") == ["amos_0600"]


def test_names_go_by_the_id_not_by_the_file(good: Path):
    labels = Amos22Dataset(good).cases("train")[0].labels
    assert labels[8] == "aorta"
    assert [labels[k] for k in (2, 3, 10, 15)] == ["right kidney", "left kidney", "pancreas", "prostate or uterus"]
    assert sorted(labels) == list(range(1, 16))


def test_volumes_lie_with_slices_first(good: Path):
    cases = {case.name: case for case in Amos22Dataset(good).all_cases()}
    turned = cases["amos_0007"].read_image()  # stored P, I, R
    stored = nibabel.load(good / "imagesTr/amos_0007.nii.gz").get_fdata()
    np.testing.assert_array_equal(turned.array, np.flip(stored, (1, 2)).transpose(1, 0, 2))
    assert turned.spacing == (5.0, 1.0, 1.0)
    labels = nibabel.load(good / "labelsTr/amos_0007.nii.gz").get_fdata()
    np.testing.assert_array_equal(cases["amos_0007"].read_labels(), np.flip(labels, (1, 2)).transpose(1, 0, 2))
    sagittal = cases["amos_0555"].read_image()  # thick slices from right to left
    assert sagittal.spacing == (6.0, 1.5, 1.5)
    assert nibabel.aff2axcodes(sagittal.affine) == ("P", "I", "L")


def test_labels_of_test_cases_are_used_where_they_are(root: Path):
    image = nibabel.load(root / "imagesTs/amos_0009.nii.gz")
    write_nifti(root / "labelsTs/amos_0009.nii.gz", blocks(image.shape, (6,)), image.affine)
    assert names(Amos22Dataset(root), "test") == ["amos_0009"]


def test_planted_faults(root: Path):
    image = nibabel.load(root / "imagesTr/amos_0507.nii.gz")
    write_nifti(root / "labelsTr/amos_0507.nii.gz", blocks(image.shape, (16,)), image.affine)
    shutil.copy(root / "imagesTr/amos_0555.nii.gz", root / "imagesTr/scan.nii.gz")
    told(Amos22Dataset(root), "amos_0507: labels [16] are not in", "imagesTr/scan.nii.gz: is not called amos_####")


def test_counts_are_those_of_dataset_json(root: Path):
    (root / "imagesTr/amos_0004.nii.gz").unlink()
    (root / "labelsTr/amos_0004.nii.gz").unlink()
    change(root, validation=json.loads((root / "dataset.json").read_text())["validation"][1:])
    found = problems(Amos22Dataset(root))
    assert "1 of 6 cases of dataset.json are missing: amos_0004 -> get them: free download" in found
    assert "1 cases are not in dataset.json: amos_0008" in found
    assert problems(Amos22MrDataset(root)) == ""
    (root / "dataset.json").unlink()
    found = problems(Amos22Dataset(root))
    assert "no readable dataset.json" in found
    assert "4 cases in imagesTr and labelsTr, published are 240" in found


def test_a_case_in_both_parts_is_told(root: Path):
    for folder in ("images", "labels"):
        shutil.copy(root / f"{folder}Tr/amos_0001.nii.gz", root / f"{folder}Va/amos_0001.nii.gz")
    assert "amos_0001: two cases have this name" in problems(Amos22Dataset(root))
