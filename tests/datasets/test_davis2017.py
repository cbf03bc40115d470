from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.davis2017 import Davis2017Dataset
from limnet.errors import FileFormatError, InputError, MissingFileError
from tests.helpers.every_set import told
from tests.helpers.fake_picture_sets import FRAMES, build_davis, moving
from tests.helpers.fake_pictures import write_picture

NAME = "davis2017"


def test_lists_and_palettes(root: Path):
    dataset = Davis2017Dataset(root)
    assert [c.name for c in dataset.cases("train")] == ["bear", "bike-trial"]
    assert [c.name for c in Davis2017Dataset(root / "DAVIS").cases("val")] == ["goat"]
    case = dataset.cases("train")[1]
    assert (case.modality, case.labels[2]) == ("video", "object 2")
    assert 255 not in case.labels
    assert case.read_image().array.shape == (FRAMES, 40, 60, 3)
    expected = np.stack([moving(frame, (40, 60)) for frame in range(FRAMES)])
    expected[:, 0, :3] = 0  # undecided
    np.testing.assert_array_equal(case.read_labels(), expected)
    half = Davis2017Dataset(root, shrink=2).cases("train")[1]
    np.testing.assert_array_equal(half.read_labels(), expected[:, 1::2, 1::2])
    assert half.read_image().shape == (FRAMES, 20, 30)


def test_one_object_of_2016_and_places_of_xmem(tmp_path: Path):
    build_davis(tmp_path / "a", 2016)
    case = Davis2017Dataset(tmp_path / "a", year=2016).cases("train")[0]
    expected = np.stack([moving(frame, (40, 56)) for frame in range(FRAMES)]) == 1
    np.testing.assert_array_equal(case.read_labels(), expected)
    assert dict(case.labels) == {1: "object 1"}
    (tmp_path / "x" / "DAVIS").mkdir(parents=True)
    shutil.copytree(tmp_path / "a" / "DAVIS", tmp_path / "x" / "DAVIS" / "2016")
    build_davis(tmp_path / "b")
    shutil.copytree(tmp_path / "b" / "DAVIS", tmp_path / "x" / "DAVIS" / "2017" / "trainval")
    assert Davis2017Dataset(tmp_path / "x", year=2016).cases("val")[0].read_labels().max() == 1
    assert Davis2017Dataset(tmp_path / "x").cases("val")[0].read_labels().max() == 2


def test_planted_faults(root: Path):
    base = root / "DAVIS"
    write_picture(base / "Annotations/480p/bear/00003.png", np.zeros((40, 56, 3), np.uint8))
    (base / "JPEGImages/480p/goat/00004.jpg").unlink()
    (base / "ImageSets/2017/val.txt").write_text("goat\nlibby\n")
    shutil.rmtree(base / "Annotations/480p/bike-trial")
    dataset = Davis2017Dataset(root)
    with pytest.warns(UserWarning, match=r"10 frame.s. in .* lack their .* left out: bike-trial/00000") as said:
        told(
            dataset,
            "1 of 4 cases of ImageSets/2017 are missing: libby",
            "00003.png holds colours; its palette indices are lost",
            "goat: 8 frames and 9 masks, 8 of them pairs",
            "bike-trial: 9 frames and 0 masks, 0 of them pairs",
            "bike-trial: no frame of",
        )
    assert len(said) == 1
    with warnings.catch_warnings(action="error"):  # once for a data set
        assert [case.name for case in dataset.cases("val")] == ["goat"]


def test_what_is_refused(root: Path):
    with pytest.raises(InputError, match="resolution is '1080p'"):
        Davis2017Dataset(root, resolution="1080p")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shrink is 0"):
        Davis2017Dataset(root, shrink=0)
    with pytest.raises(MissingFileError, match="no JPEGImages/Full-Resolution"):
        Davis2017Dataset(root, resolution="Full-Resolution")
    (root / "DAVIS/ImageSets/2017/val.txt").unlink()
    with pytest.raises(MissingFileError, match=r"there is no ImageSets.2017.val\.txt"):
        Davis2017Dataset(root)


def test_the_lists_of_2016_where_they_are_shipped(tmp_path: Path):
    base = build_davis(tmp_path / "a", 2016) / "DAVIS"
    (base / "ImageSets/2016").rename(base / "ImageSets/480p")  # DAVIS 2016 itself
    assert [case.name for case in Davis2017Dataset(tmp_path / "a", year=2016).cases("val")] == ["goat"]
    shutil.rmtree(base / "ImageSets")  # XMem reads the list of names in the folder of 2017
    xmem = tmp_path / "x" / "DAVIS"
    shutil.copytree(base, xmem / "2016")
    lists = xmem / "2017" / "trainval" / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\nbike-trial\n")
    (lists / "val.txt").write_text("goat\n")
    assert [case.name for case in Davis2017Dataset(tmp_path / "x", year=2016).cases("val")] == ["goat"]
    (lists / "val.txt").write_bytes(b"\xff\xfegoat")
    with pytest.raises(FileFormatError, match="It should be a text file"):
        Davis2017Dataset(tmp_path / "x", year=2016)


def test_undecided_pixels_of_2017_are_no_object_of_2016(root: Path):
    base = root / "DAVIS"
    (base / "ImageSets/2017").rename(base / "ImageSets/2016")
    labels = Davis2017Dataset(root, year=2016).cases("train")[1].read_labels()
    expected = np.stack([moving(frame, (40, 60)) for frame in range(FRAMES)]) > 0
    expected[:, 0, :3] = False
    np.testing.assert_array_equal(labels, expected)
