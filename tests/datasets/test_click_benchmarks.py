"""GrabCut, Berkeley and DAVIS-345: pictures with a mask for each object, for tests alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.pictures import PictureDataset
from limnet.datasets.click_benchmarks import BerkeleyDataset, Davis345Dataset, GrabCutDataset
from limnet.errors import InputError
from tests.helpers.every_set import problems
from tests.helpers.fake_picture_sets import build_berkeley, build_davis345, build_grabcut
from tests.helpers.fake_pictures import disc, write_picture


def test_a_case_for_each_mask(tmp_path: Path) -> None:
    cases = BerkeleyDataset(build_berkeley(tmp_path)).cases("test")
    assert [case.name for case in cases] == ["113044", "124084_1", "124084_2"]
    assert [case.patient for case in cases] == ["113044", "124084", "124084"]
    np.testing.assert_array_equal(cases[2].read_labels()[0], disc(20, 40, 9))


def test_any_channel_counts(tmp_path: Path) -> None:
    cases = Davis345Dataset(build_davis345(tmp_path)).cases("test")
    assert [case.name for case in cases] == ["00000", "00001", "00002"]
    for number, case in enumerate(cases):
        np.testing.assert_array_equal(case.read_labels()[0], disc(20, 28, 10 + number))


def test_object_and_band(tmp_path: Path) -> None:
    dataset = GrabCutDataset(build_grabcut(tmp_path / "GrabCut").parent)
    cases = dataset.cases("test")
    assert [case.name for case in cases] == ["banana", "flower", "scissors"]
    assert dataset.cases("train") == dataset.cases("val") == []
    np.testing.assert_array_equal(cases[1].read_labels()[0], disc(20, 28, 9))
    assert cases[1].labels == {1: "object"}
    np.testing.assert_array_equal(dataset.void("flower")[0], disc(20, 28, 12) & ~disc(20, 28, 9))
    with pytest.raises(InputError, match="no case 'rose'"):
        dataset.void("rose")
    write_picture(dataset.files[2].masks[0], np.full((40, 56), 128, np.uint8))
    assert "scissors: no voxel is labelled" in problems(dataset)


@pytest.mark.parametrize(
    ("kind", "build", "lost", "told"),
    [
        (BerkeleyDataset, build_berkeley, "images/124084.jpg", ("124084_1", "3 objects, published are 100")),
        (Davis345Dataset, build_davis345, "gt/00002.png", ("00002", "3 frames, published are 345")),
        (GrabCutDataset, build_grabcut, "data_GT/flower.jpg", ("flower", "3 pictures, published are 50")),
    ],
)
def test_faults_are_told(kind: type[PictureDataset], build, lost: str, told: tuple[str, str], tmp_path: Path) -> None:
    (build(tmp_path) / lost).unlink()
    found = problems(kind(tmp_path))
    assert f"{told[0]}: left out, as {lost} is not there" in found
    assert told[1] in found
