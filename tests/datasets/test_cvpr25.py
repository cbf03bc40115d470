from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.cvpr25 import Cvpr25Dataset, read_boxes, read_npz_image
from limnet.errors import FileFormatError, InputError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_nifti import damage
from tests.helpers.fake_volumes import WITHOUT_BOXES, boxes_of, cvpr25_arrays

NAME = "cvpr25"


def test_splits_and_modalities(good: Path):
    dataset = Cvpr25Dataset(good)
    train, val = dataset.cases("train"), dataset.cases("val")
    assert [(c.name, c.modality) for c in train] == [
        ("CT_AbdomenAtlas_0001", "other"),  # windowed: no Hounsfield units
        ("MR_BraTS-T1c_bench_7", "mr"),
        ("Microscopy_NucMM_2", "microscopy"),
    ]
    assert [c.name for c in val] == ["CT_AMOS_amos_0018", "PET_Lesion_5", "US_Cardiac_patient0003"]
    assert {c.window for c in (*train, *val)} == {(0.0, 255.0)}
    assert {len(c.labels) for c in (*train, *val)} == {0}
    assert len(Cvpr25Dataset(good / "3D_train_npz_all").cases("train")) == 3


def test_the_coreset_is_used_where_the_whole_is_not_there(root: Path):
    (root / "3D_train_npz_all").rename(root / "3D_train_npz_random_10percent_16G")
    assert len(Cvpr25Dataset(root).cases("train")) == 3


def test_images_labels_and_spacing(good: Path):
    image, labels, _ = cvpr25_arrays(2, 10)
    case = Cvpr25Dataset(good).cases("val")[0]
    volume = case.read_image()
    np.testing.assert_array_equal(volume.array, image)
    np.testing.assert_array_equal(case.read_labels(), labels)
    assert case.read_labels().dtype == np.uint8
    assert volume.spacing == (3.0, 0.7, 0.9)
    assert Cvpr25Dataset(good, spacing_order="xyz").cases("val")[0].read_image().spacing == (0.9, 0.7, 3.0)
    with pytest.raises(InputError, match="allowed are zyx, xyz"):
        Cvpr25Dataset(good, spacing_order="yxz")


def test_boxes(good: Path):
    dataset = Cvpr25Dataset(good)
    for case in dataset.cases("val"):
        boxes = read_boxes(dataset.image_file(case))
        if dataset.image_file(case).name == WITHOUT_BOXES:
            assert boxes is None
        else:
            assert boxes == boxes_of(case.read_labels())


class Command:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-box",)


def test_boxes_run_no_code(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = root / "3D_val_npz/CT_AMOS_amos_0018.npz"
    image, _, spacing = cvpr25_arrays(2, 10)
    np.savez_compressed(path, imgs=image, spacing=spacing, boxes=np.array([Command(), None], dtype=object))
    with pytest.raises(FileFormatError, match="mkdir"):
        read_boxes(path)
    assert "mkdir" in problems(Cvpr25Dataset(root))
    assert not (tmp_path / "made-by-a-box").exists()
    np.testing.assert_array_equal(Cvpr25Dataset(root).cases("val")[0].read_image().array, image)


def test_planted_faults(root: Path):
    image, labels, spacing = cvpr25_arrays(3, 0)
    atlas = root / "3D_train_npz_all/CT/CT_AbdomenAtlas/CT_AbdomenAtlas_0001.npz"
    np.savez_compressed(atlas, imgs=image.astype(np.float32) * 4 - 300, gts=labels * 2, spacing=spacing[:2])
    damage(root / "3D_train_npz_all/MRI/MR_BraTS-T1c/MR_BraTS-T1c_bench 7.npz")
    np.savez_compressed(root / "3D_train_npz_all/Microscopy/Microscopy_NucMM/Microscopy_NucMM_2.npz", imgs=image)
    (root / "3D_val_gt/3D_val_gt_interactive/PET_Lesion_5.npz").unlink()
    np.savez_compressed(root / "3D_val_gt/3D_val_gt_interactive/US_Cardiac_patient0003.npz", gts=labels[:-1])
    np.savez_compressed(root / "3D_val_gt/3D_val_gt_interactive/CT_AMOS_amos_0018.npz", gts=labels)
    told(
        Cvpr25Dataset(root),
        "CT_AbdomenAtlas_0001: imgs is float32",
        "CT_AbdomenAtlas_0001: imgs holds values -300..720",
        "CT_AbdomenAtlas_0001: ids [2, 4, 6] do not run from 1",
        "CT_AbdomenAtlas_0001: spacing is [3.0, 0.7]",
        "MR_BraTS-T1c_bench_7: ... MR_BraTS-T1c_bench 7.npz could not be read",
        "Microscopy_NucMM_2.npz has no key 'gts', only ['imgs']",
        "PET_Lesion_5: left out, as 3D_val_gt",
        "US_Cardiac_patient0003: imgs is (5, 12, 14), gts (4, 12, 14)",
        "CT_AMOS_amos_0018: 2 boxes for 3 ids",
    )


def test_a_wrong_checksum_of_stored_arrays(tmp_path: Path):
    image, labels, _ = cvpr25_arrays(2)
    path = tmp_path / "x.npz"
    np.savez(path, imgs=np.asfortranarray(image), gts=labels)
    np.testing.assert_array_equal(read_npz_image(path).array, image)
    data = bytearray(path.read_bytes())
    data[data.index(image.T.tobytes()[:50]) + 30] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="CRC"):
        read_npz_image(path)
