from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.module import CaseDataModule
from limnet.datasets.static_sets import PARTS, StaticSetsDataset, moved_labels, moved_picture, movement
from limnet.errors import InputError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_picture_sets import build_original_static_sets, soft
from tests.helpers.fake_pictures import disc, write_picture

NAME = "static-sets"


def test_the_packed_folder(root: Path):
    dataset = StaticSetsDataset(root)
    assert list(dataset.folders) == list(PARTS)
    names = [c.name for c in dataset.cases("train")]
    assert names[:4] == ["fss_ab_wheel_1", "fss_ab_wheel_2", "fss_zebra_1", "fss_zebra_2"]
    assert len(names) == 12
    assert [c.name for c in dataset.cases("val")] == ["duts-te_im_0", "duts-te_im_1"]
    assert dataset.cases("train")[0].patient == "fss_ab_wheel"
    np.testing.assert_array_equal(dataset.cases("train")[1].read_labels()[0], soft(2) > 127)


def test_as_their_owners_ship_them(tmp_path: Path):
    dataset = StaticSetsDataset(build_original_static_sets(tmp_path))
    assert problems(dataset) == ""
    assert [c.name for c in dataset.all_cases()] == [
        "fss_zebra_1",
        "ecssd_0001",
        "duts-tr_a",
        "duts-te_a",
        "big_val_2007_im",
        "hrsod_HRSOD_train_x",
    ]
    for case in dataset.all_cases():
        np.testing.assert_array_equal(case.read_labels()[0], soft(0) > 127)


def test_large_pictures_are_drawn_more_often(root: Path):
    weights = {dataset.parts[0]: weight for dataset, weight in StaticSetsDataset(root).mix()}  # type: ignore[attr-defined]
    assert weights == {"fss": 4, "ecssd": 2, "duts-tr": 2, "duts-te": 2, "big": 10, "hrsod": 10}


def test_films_of_pictures(root: Path, tmp_path: Path):
    dataset = StaticSetsDataset(root, parts=("ecssd",), frames=9)
    data = CaseDataModule(
        dataset, "propagation", batch_size=2, samples_per_epoch=2, size=32, length=8, cache_dir=tmp_path
    )
    assert next(iter(data.train_dataloader()))[0].shape == (2, 8, 32, 32)
    assert dataset.all_cases()[0].read_image().array.shape == (9, 40, 56, 3)
    with pytest.raises(InputError, match=r"parts \['coco'\] are unknown"):
        StaticSetsDataset(root, parts=("coco",))
    with pytest.raises(InputError, match="frames is 0"):
        StaticSetsDataset(root, frames=0)


def test_planted_faults(root: Path):
    static = root / "static"
    (static / "fss/zebra/1.png").unlink()
    told(StaticSetsDataset(root), "fss_zebra_1: left out, as static/fss/zebra/1.png is not there")


def test_labels_move_with_the_picture(tmp_path: Path):
    inside = disc(20, 26, 11)
    image = write_picture(tmp_path / "a.png", np.where(inside[..., None], 200, 20).repeat(3, -1).astype(np.uint8))
    mask = write_picture(tmp_path / "mask.png", (inside * 255).astype(np.uint8))
    film, labels = moved_picture(image, 6).array, moved_labels(image, mask, 6)
    assert film.shape == (*labels.shape, 3) == (6, 40, 56, 3)
    np.testing.assert_array_equal(film[0, ..., 0] > 110, inside)
    np.testing.assert_array_equal(labels[0], inside)
    assert (labels[5] != labels[0]).any()
    for frame, found in zip(film[..., 0] > 110, labels > 0, strict=True):
        assert (frame & found).sum() / (frame | found).sum() > 0.95
    np.testing.assert_array_equal(moved_picture(image, 6).array, film)
    gray = write_picture(tmp_path / "gray.png", (inside * 9).astype(np.uint8))
    assert moved_picture(gray, 3).array.shape == (3, 40, 56)


def test_pictures_move_apart_and_steadily():
    first, second = movement("a.jpg", 5, (40, 56)), movement("b.jpg", 5, (40, 56))
    np.testing.assert_allclose(first[0], np.eye(3))
    assert not np.allclose(first[4], second[4])
    away = [np.linalg.norm(matrix - np.eye(3)) for matrix in first]
    assert away == sorted(away)
    assert len(movement("a.jpg", 1, (40, 56))) == 1
