from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.datasets.kits19 import HELD_OUT, Kits19Dataset
from tests.helpers.every_set import problems, told
from tests.helpers.fake_nifti import oriented_affine, write_nifti

NAME = "kits19"


def test_the_published_split(good: Path):
    assert len(HELD_OUT) == 42
    assert len(set(range(210)) - HELD_OUT) == 168
    dataset = Kits19Dataset(good)
    assert [c.name for c in dataset.cases("train")] == ["case_00000", "case_00001", "case_00160"]
    assert [c.name for c in dataset.cases("val")] == ["case_00002", "case_00007", "case_00208"]
    assert dataset.cases("train")[0].labels == {1: "kidney", 2: "kidney tumour"}
    assert dataset.cases("train")[0].window == (-79.0, 304.0)
    assert [c.name for c in Kits19Dataset(good / "data").cases("train")] == ["case_00000", "case_00001", "case_00160"]


def test_slices_come_first_from_feet_to_head(good: Path):
    for case in Kits19Dataset(good).all_cases():
        volume, labels = case.read_image(), case.read_labels()
        assert volume.spacing == pytest.approx((5.0, 0.8, 0.8))
        assert volume.modality == "CT"
        # the fake's slice z is z hundred, counted from the head
        means = volume.array.mean((1, 2)) // 100
        np.testing.assert_array_equal(means, np.arange(volume.shape[0])[::-1])
        assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
        assert labels.any((1, 2)).sum() == 3
        assert labels.dtype == np.uint8
    odd = next(c for c in Kits19Dataset(good).all_cases() if c.name == "case_00160").read_image()
    assert odd.shape == (5, 12, 18)


def test_planted_faults(root: Path):
    data = root / "data"
    shutil.rmtree(data / "case_00007")
    labels = nibabel.load(data / "case_00002/segmentation.nii.gz")
    cyst = np.asarray(labels.dataobj).copy()
    cyst[0, 0, 0] = 3
    write_nifti(data / "case_00002/segmentation.nii.gz", cyst, labels.affine)
    for name in ("imaging", "segmentation"):
        path = data / f"case_00160/{name}.nii.gz"
        write_nifti(path, np.asarray(nibabel.load(path).dataobj), oriented_affine("RAS", (5.0, 0.8, 0.8)))
    told(
        Kits19Dataset(root),
        "1 of 6 cases of kits.json are missing: case_00007",
        "case_00002: labels [3] are not in",
        "case_00160: axis codes are RAS, so slices are not on the first stored axis",
    )


def test_without_kits_json_all_210_are_expected(root: Path):
    (root / "data/kits.json").unlink()
    assert "204 of 210 cases of the 210 published cases are missing" in problems(Kits19Dataset(root))
