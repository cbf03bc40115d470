from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.datasets.totalsegmentator import IDS, STRUCTURES, TotalSegmentatorDataset
from limnet.errors import FileFormatError, InputError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_nifti import damage, write_nifti
from tests.helpers.fake_volumes import PRESENT

NAME = "totalsegmentator"
SOME = ("spleen", "liver", "pancreas", "vertebrae_L3", "costal_cartilages")


def test_ids_are_those_of_version_2():
    assert len(STRUCTURES) == len(set(STRUCTURES)) == 117
    known = {"spleen": 1, "liver": 5, "colon": 20, "vertebrae_S1": 26, "vertebrae_L5": 27, "vertebrae_C1": 50}
    known |= {"heart": 51, "iliac_vena_right": 68, "spinal_cord": 79, "brain": 90, "rib_left_1": 92, "rib_right_1": 104}
    known |= {"sternum": 116, "costal_cartilages": 117}
    assert {name: IDS[name] for name in known} == known


def test_splits_are_those_of_the_table(good: Path, tmp_path: Path):
    dataset = TotalSegmentatorDataset(good, structures=SOME)
    assert [c.name for c in dataset.cases("train")] == ["s0000", "s0011"]
    assert [c.name for c in dataset.cases("val")] == ["s0058"]
    assert [c.name for c in dataset.cases("test")] == ["s1429"]
    nested = shutil.copytree(good, tmp_path / "unpacked/Totalsegmentator_dataset_v201")
    assert [c.name for c in TotalSegmentatorDataset(nested.parent).cases("train")] == ["s0000", "s0011"]


def test_files_are_combined_when_a_case_is_read(good: Path):
    for case in TotalSegmentatorDataset(good, structures=SOME).all_cases():
        labels = case.read_labels()
        assert set(np.unique(labels)) == {0, *(IDS[name] for name in PRESENT)}
        image = nibabel.load(good / case.name / "ct.nii.gz")
        stored = np.zeros(image.shape, np.uint8)
        for name in PRESENT:
            mask = nibabel.load(good / case.name / "segmentations" / f"{name}.nii.gz").get_fdata()
            stored[mask > 0] = IDS[name]
        flips = (0, 1) if nibabel.aff2axcodes(image.affine) == ("R", "A", "S") else ()
        np.testing.assert_array_equal(labels, np.flip(stored, flips).T)
        assert case.labels[IDS["liver"]] == "liver"


def test_a_choice_of_structures_and_files_that_are_missing(root: Path):
    one = TotalSegmentatorDataset(root, structures=("liver",)).cases("train")[0]
    assert one.labels == {5: "liver"}
    assert set(np.unique(one.read_labels())) == {0, 5}
    (root / "s0000/segmentations/liver.nii.gz").unlink()
    all_of_them = TotalSegmentatorDataset(root).cases("train")[0]
    assert set(np.unique(all_of_them.read_labels())) == {0, *(IDS[name] for name in PRESENT if name != "liver")}
    with pytest.raises(InputError, match="livre"):
        TotalSegmentatorDataset(root, structures=("livre",))


def test_planted_faults(root: Path):
    image = nibabel.load(root / "s0000/segmentations/liver.nii.gz")
    mask = np.asarray(image.dataobj)
    write_nifti(root / "s0000/segmentations/liver.nii.gz", mask * 255, image.affine)
    write_nifti(root / "s0000/segmentations/heart_atrium_left.nii.gz", mask, image.affine)
    damage(root / "s0011/ct.nii.gz")
    (root / "s0058/segmentations/spleen.nii.gz").unlink()
    write_nifti(root / "s0058/segmentations/pancreas.nii.gz", mask[:-1], image.affine)
    for name in SOME:
        path = root / f"s1429/segmentations/{name}.nii.gz"
        write_nifti(path, np.zeros(nibabel.load(path).shape, np.uint8), nibabel.load(path).affine)
    meta = (root / "meta.csv").read_text()
    (root / "meta.csv").write_text(meta + "s0864;1;f;A;x;train;x\n")
    dataset = TotalSegmentatorDataset(root, structures=SOME)
    told(
        dataset,
        "s0000: liver holds values up to 255",
        "s0000: segmentations holds 1 files of no v2 structure, such as ['heart_atrium_left']",
        "s0011/ct.nii.gz could not be read",
        "s0058: 1 of 5 structures have no file, such as ['spleen']",
        "s0058: pancreas: the image is (8, 10, 12), its labels (6, 10, 11)",
        "s1429: no voxel is labelled",
        "1 of 5 cases of meta.csv are missing: s0864",
    )
    with pytest.raises(FileFormatError, match=r"pancreas\.nii\.gz is \(6, 10, 11\), its image ct\S+ \(8, 10, 12\)"):
        dataset.cases("val")[0].read_labels()


def test_without_the_table_patients_are_split_by_a_hash(root: Path):
    (root / "meta.csv").unlink()
    dataset = TotalSegmentatorDataset(root, structures=SOME)
    parts = [{c.name for c in dataset.cases(split)} for split in dataset.splits]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == 4
    assert "no readable meta.csv" in problems(dataset)
