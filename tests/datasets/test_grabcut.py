from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.grabcut import GrabCutDataset
from limnet.errors import InputError
from tests.helpers.every_set import problems
from tests.helpers.fake_benchmarks_2d import build_grabcut
from tests.helpers.fake_pictures import disc, write_picture


def test_object_and_band(tmp_path: Path):
    dataset = GrabCutDataset(build_grabcut(tmp_path / "GrabCut").parent)
    cases = dataset.cases("test")
    assert [case.name for case in cases] == ["banana", "flower", "scissors"]
    assert dataset.cases("train") == dataset.cases("val") == []
    np.testing.assert_array_equal(cases[1].read_labels()[0], disc(20, 28, 9))
    assert cases[1].labels == {1: "object"}
    np.testing.assert_array_equal(dataset.void("flower")[0], disc(20, 28, 12) & ~disc(20, 28, 9))
    with pytest.raises(InputError, match="no case 'rose'"):
        dataset.void("rose")


def test_pictures_without_a_mask_are_left_out_with_one_warning(tmp_path: Path):
    root = build_grabcut(tmp_path)
    (root / "boundary_GT/banana.bmp").unlink()
    dataset = GrabCutDataset(root)
    with pytest.warns(UserWarning, match="1 of 3 cases in .* are left out: banana"):
        assert [case.name for case in dataset.cases("test")] == ["flower", "scissors"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.all_cases()
        GrabCutDataset(root).check()


def test_planted_faults(tmp_path: Path):
    root = build_grabcut(tmp_path)
    (root / "data_GT/flower.jpg").unlink()
    (root / "boundary_GT/banana.bmp").unlink()
    write_picture(root / "boundary_GT/scissors.bmp", np.full((40, 56), 128, np.uint8))
    found = problems(GrabCutDataset(root))
    assert "flower: left out, as data_GT/flower.jpg is not there" in found
    assert "banana: left out, as boundary_GT/banana.bmp is not there" in found
    assert "scissors: no voxel is labelled" in found
    assert ": 3 pictures, published are 50" in found
    assert len(found.splitlines()) == 4
