from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.davis585 import Davis585Dataset
from limnet.datasets.mixes import load_mix
from limnet.errors import InputError, MissingFileError
from tests.helpers.every_set import told
from tests.helpers.fake_picture_sets import DAVIS585_FILMS
from tests.helpers.fake_pictures import disc, write_picture

NAME = "davis585"


def test_objects_of_frames(root: Path):
    dataset = Davis585Dataset(root, protocol="benchmark")
    cases = dataset.cases("test")
    assert [c.name for c in cases[:3]] == [
        "bike-packing_00060_object1",
        "bike-packing_00060_object2",
        "bike-packing_00075_object1",
    ]
    assert len(cases) == 12
    assert dataset.cases("train") == []
    np.testing.assert_array_equal(cases[1].read_labels()[0], disc(20, 40, 9))


def test_films_are_not_torn_apart_for_training(root: Path):
    dataset = Davis585Dataset(root)
    places = {split: {c.patient for c in dataset.cases(split)} for split in dataset.splits}
    assert places["train"] | places["val"] == set(DAVIS585_FILMS)
    assert not places["train"] & places["val"]
    assert places["train"]
    assert places["val"]
    assert not places["test"]
    with pytest.raises(InputError, match="protocol is 'all'; allowed are clean, benchmark, paper"):
        Davis585Dataset(root, protocol="all")  # type: ignore[arg-type]


def test_all_585_as_the_paper_has_them(root: Path):
    dataset = Davis585Dataset(root, protocol="paper")
    train, test, whole = (
        [c.name for c in cases] for cases in (dataset.cases("train"), dataset.cases("test"), dataset.all_cases())
    )
    assert train == test == whole
    assert dataset.cases("val") == []
    assert {d.protocol for d, _ in load_mix("paper-stage1", [("davis585", root)])} == {"paper"}


def test_three_modes(root: Path):
    dataset = Davis585Dataset(root)
    case = next(c for c in dataset.all_cases() if c.name == "breakdance_x_00060_object1")
    truth = disc(20, 18, 10)
    assert not dataset.initial(case, "zero").any()
    assert dataset.initial(case, "zero").shape == (1, *truth.shape)
    np.testing.assert_array_equal(dataset.initial(case, "stm")[0], truth & disc(16, 28, 20))
    np.testing.assert_array_equal(dataset.initial(case, "sp")[0], truth | disc(20, 28, 3))
    with pytest.raises(InputError, match="mode is 'half'; allowed are zero, stm, sp"):
        dataset.initial(case, "half")


def test_planted_faults(root: Path):
    film = root / "davis585" / "blackswan"
    (film / "init_sp_object1_00075.png").unlink()
    write_picture(root / "davis585/india/object1_00075.png", np.full((40, 56, 3), 128, np.uint8))
    dataset = Davis585Dataset(root)
    told(
        dataset,
        "12 objects, published are 585",
        "blackswan_00075_object1: there is no davis585/blackswan/init_sp_object1_00075.png",
        "india_00075_object1: no voxel is labelled",
    )
    case = next(c for c in dataset.all_cases() if c.name == "blackswan_00075_object1")
    with pytest.raises(MissingFileError, match="init_sp_object1_00075"):
        dataset.initial(case, "sp")
