from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets import endovis18
from limnet.datasets.endovis18 import COLOURS, ISINET_HELD_OUT, TRAINING, EndoVis18Dataset
from limnet.errors import FileFormatError, InputError
from tests.helpers.every_set import told
from tests.helpers.fake_picture_sets import COLOUR_OF, FRAMES, endovis_colours, endovis_scene, endovis_table
from tests.helpers.fake_pictures import write_picture

NAME = "endovis18"


@pytest.fixture(autouse=True)
def length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endovis18, "FRAMES", FRAMES)


def test_the_published_splits(good: Path):
    assert len(TRAINING) == 15
    assert 8 not in TRAINING
    assert len(COLOURS) == 13
    dataset = EndoVis18Dataset(good)
    assert [c.name for c in dataset.cases("train")] == [f"train_seq_{n}" for n in TRAINING]
    assert dataset.cases("val") == []
    assert [c.name for c in dataset.cases("test")] == [f"test_seq_{n}" for n in (1, 2, 3, 4)]
    isinet = EndoVis18Dataset(good, protocol="isinet")
    assert [c.name for c in isinet.cases("val")] == [f"train_seq_{n}" for n in sorted(ISINET_HELD_OUT)]
    assert [c.name for c in isinet.cases("train")] == [f"train_seq_{n}" for n in TRAINING if n not in (2, 5, 9, 15)]
    assert [c.name for c in isinet.cases("test")] == [c.name for c in dataset.cases("test")]
    assert len(EndoVis18Dataset(good / "test_data").cases("test")) == 4
    with pytest.raises(InputError, match="protocol is 'tools'"):
        EndoVis18Dataset(good, protocol="tools")  # type: ignore[arg-type]


def test_colours_schemas_and_repairs(good: Path):
    cases = {case.name: case for case in EndoVis18Dataset(good).all_cases()}
    for name, number in (("train_seq_2", 2), ("train_seq_16", 16), ("test_seq_1", 1)):
        expected = [endovis_scene(frame, number) for frame in range(FRAMES)]
        np.testing.assert_array_equal(cases[name].read_labels(), expected)
    repaired = cases["train_seq_1"].read_labels()
    np.testing.assert_array_equal(repaired[3], endovis_scene(3, 0))
    np.testing.assert_array_equal(repaired[4], endovis_scene(4, 1))
    assert (endovis_scene(3, 0) != endovis_scene(3, 1)).any()
    case = cases["test_seq_1"]
    assert (case.modality, case.labels[6], case.labels[10]) == ("endoscopy", "thread", "small-intestine")
    assert case.read_image().array.shape == (FRAMES, 40, 56, 3)


def test_colours_of_labels_json_win(root: Path):
    base = root / "miccai_challenge_2018_release_1"
    entries = endovis_table()
    entries[6]["color"] = [9, 9, 9]
    (base / "labels.json").write_text(json.dumps(entries))
    folder = base / "seq_3" / "labels"
    for frame in range(FRAMES):
        mask = endovis_colours(endovis_scene(frame, 3))
        mask[(mask == COLOUR_OF[6]).all(-1)] = 9
        write_picture(folder / f"frame{frame:03d}.png", mask)
    case = next(c for c in EndoVis18Dataset(root).all_cases() if c.name == "train_seq_3")
    np.testing.assert_array_equal(case.read_labels()[0], endovis_scene(0, 3))
    (base / "labels.json").unlink()
    case = next(c for c in EndoVis18Dataset(root).all_cases() if c.name == "train_seq_4")
    np.testing.assert_array_equal(case.read_labels()[0], endovis_scene(0, 4))  # the published colours


def test_planted_faults(root: Path):
    first = root / "miccai_challenge_2018_release_1"
    shutil.rmtree(root / "miccai_challenge_2018_release_4")
    (first / "seq_2/left_frames/frame008.png").unlink()
    (first / "seq_2/labels/frame008.png").unlink()
    (first / "seq_3/labels/frame001.png").unlink()
    mask = endovis_colours(endovis_scene(0, 4))
    mask[5:7, 5:8] = (60, 99, 60)
    write_picture(first / "seq_4/labels/frame000.png", mask)
    write_picture(root / "repairs/seq_1_frame140.png", mask)
    shutil.copytree(first / "seq_1", root / "copy" / "seq_1")
    with pytest.warns(UserWarning, match=r"1 frame.s. in .* left out: train_seq_3/frame001. Unpack"):
        told(
            EndoVis18Dataset(root),
            "4 of 15 train sequences are missing: train_seq_13",
            "train_seq_2: 8 frames, released are 9",
            "train_seq_3: 9 frames and 8 masks, 8 of them pairs",
            "frame000.png has 6 pixels in 1 colour(s) of no class, such as (60, 99, 60)",
            "train_seq_1: repairs/seq_1_frame140.png corrects a mask that is not there",
            "train_seq_1: there is a second one in",
        )


def test_a_table_of_another_set_is_refused(root: Path):
    (root / "test_data/labels.json").write_text(json.dumps({"classes": [{"name": "liver", "color": [1, 2, 3]}]}))
    with pytest.raises(FileFormatError, match="names class 'liver'; known are background-tissue"):
        EndoVis18Dataset(root)
    (root / "test_data/labels.json").write_text("{}")
    with pytest.raises(FileFormatError, match="It should be a table of classes"):
        EndoVis18Dataset(root)


@pytest.mark.parametrize(
    ("inside", "test"), [("latest_download", False), ("Test data and label release", True), ("x/my test-data", True)]
)
def test_test_sequences_by_the_words_of_their_folders(good: Path, tmp_path: Path, inside: str, test: bool):
    shutil.copytree(good / "test_data", tmp_path / "root" / inside)
    names = [case.name for case in EndoVis18Dataset(tmp_path / "root").all_cases()]
    assert names == [f"{'test' if test else 'train'}_seq_{number}" for number in (1, 2, 3, 4)]
    (tmp_path / "root" / inside).rename(tmp_path / "Test data and label release")
    assert len(EndoVis18Dataset(tmp_path / "Test data and label release").cases("test")) == 4
