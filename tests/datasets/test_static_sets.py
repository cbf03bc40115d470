from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.module import CaseDataModule
from limnet.datasets.static_sets import PARTS, StaticSetsDataset
from limnet.errors import InputError
from tests.helpers.every_set import problems
from tests.helpers.fake_static_sets import build_originals, soft

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
    dataset = StaticSetsDataset(build_originals(tmp_path))
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
    found = problems(StaticSetsDataset(root))
    assert "fss_zebra_1: left out, as static/fss/zebra/1.png is not there" in found
    assert len(found.splitlines()) == 1
