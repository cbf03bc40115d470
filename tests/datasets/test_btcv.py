from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.datasets.btcv import BtcvDataset
from limnet.errors import InputError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_nifti import write_nifti
from tests.helpers.fake_volumes import build_btcv

NAME = "btcv"


def numbers(dataset: BtcvDataset, split: str) -> list[int]:
    return [int(case.patient) for case in dataset.cases(split)]


def test_the_published_splits(good: Path):
    dataset = BtcvDataset(good)
    assert numbers(dataset, "val") == [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]
    assert numbers(dataset, "train") == [5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40]
    other = BtcvDataset(good / "RawData", protocol="unetr")
    assert numbers(other, "val") == [35, 36, 37, 38, 39, 40]
    assert len(numbers(other, "train")) == 24
    with pytest.raises(InputError, match="transunet, unetr"):
        BtcvDataset(good, protocol="mine")


def test_names_and_orientation(good: Path):
    case = BtcvDataset(good / "RawData/Training").cases("val")[2]
    assert case.name == "btcv_0003"
    assert case.labels[10] == "portal and splenic vein"
    assert case.labels[11] == "pancreas"
    assert len(case.labels) == 13
    assert set(np.unique(case.read_labels())) == {0, 1, *range(3, 14)}  # this patient has no right kidney
    volume = case.read_image()
    assert volume.spacing == pytest.approx((3.0, 0.8, 0.8))
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")


def test_the_form_of_the_decathlon(tmp_path: Path):
    build_btcv(tmp_path, decathlon_like=True)
    dataset = BtcvDataset(tmp_path)
    assert problems(dataset) == ""
    assert len(numbers(dataset, "train")) == 18


def test_planted_faults(root: Path):
    training = root / "RawData/Training"
    for name in ("img/img0038", "label/label0038"):
        (training / f"{name}.nii.gz").unlink()
    amos = training / "label/label0037.nii.gz"
    image = nibabel.load(amos)
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 13] = 15
    write_nifti(amos, labels, image.affine)
    told(
        BtcvDataset(root),
        "1 of 30 cases of the 30 labelled cases are missing: btcv_0038",
        "btcv_0037: labels [15] are not in",
    )
