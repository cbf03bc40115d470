from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.youtube_vos import YouTubeVosDataset
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_picture_sets import FRAMES, YOUTUBE_FILMS, build_youtube, moving

NAME = "youtube-vos"


def test_films_objects_and_categories(root: Path):
    dataset = YouTubeVosDataset(root)
    cases = {case.name: case for case in dataset.all_cases()}
    assert tuple(cases) == YOUTUBE_FILMS
    assert dict(cases["003234408d"].labels) == {1: "penguin", 2: "zebra"}
    assert dict(cases["0043f083b5"].labels) == {1: "penguin 1", 2: "penguin 2"}
    labels = cases["0043f083b5"].read_labels()
    np.testing.assert_array_equal(labels, [moving(frame, (40, 56)) for frame in range(FRAMES)])
    assert not (labels[:2] == 2).any()  # comes late
    assert len(dataset.cases("train")) == 3
    assert len(dataset.cases("val")) == 1


def test_smaller_copy_and_subset(root: Path, tmp_path: Path):
    build_youtube(root, "train_480p")
    listed = tmp_path / "yv_subset.txt"
    listed.write_text("0043f083b5\n005a527edd\n")
    dataset = YouTubeVosDataset(root, subset=listed)
    assert dataset.base.name == "train_480p"
    assert dataset.names["003234408d"][2] == "zebra"  # meta.json of train
    assert [c.name for c in dataset.all_cases()] == ["0043f083b5", "005a527edd"]
    assert problems(dataset) == ""
    with pytest.raises(MissingFileError, match="one film a line"):
        YouTubeVosDataset(root, subset=tmp_path / "none.txt")


def test_planted_faults(root: Path):
    for frame in range(FRAMES):
        (root / f"train/JPEGImages/0044fa5fba/{5 * frame:05d}.jpg").unlink()
    (root / "train/JPEGImages/003234408d/00010.jpg").unlink()
    meta = (root / "train/meta.json").read_text().replace('"005a527edd"', '"005a527xxx"')
    (root / "train/meta.json").write_text(meta)
    with pytest.warns(UserWarning, match=r"10 frame.s. in .* left out: 003234408d/00010, 0044fa5fba/00000"):
        told(
            YouTubeVosDataset(root),
            "1 of 4 cases of meta.json are missing: 005a527xxx",
            "1 cases are not in meta.json: 005a527edd",
            "003234408d: 1 of 9 masks have no frame",
            "0044fa5fba: no frame of train/JPEGImages/0044fa5fba has a mask",
        )
    (root / "train/meta.json").unlink()
    assert "categories are not known" in problems(YouTubeVosDataset(root))
    (root / "train/meta.json").write_text("[1]")
    with pytest.raises(FileFormatError, match=r"meta\.json could not be read.* It should be YouTube-VOS"):
        YouTubeVosDataset(root)


def test_missing_masks(root: Path):
    masks = root / "train/Annotations"
    for name in ("00000", "00020"):
        (masks / "003234408d" / f"{name}.png").unlink()
    told(
        YouTubeVosDataset(root),
        "003234408d: 2 of 9 masks that meta.json lists are not there: 00000, 00020 -> unpack the masks again",
    )
    meta = json.loads((root / "train/meta.json").read_text())
    for about in meta["videos"]["0043f083b5"]["objects"].values():
        about["frames"] = about["frames"][:4]
    (root / "train/meta.json").write_text(json.dumps(meta))
    (masks / "0043f083b5/00015.png").unlink()  # listed: told once
    (masks / "0043f083b5/00035.png").unlink()  # in no list
    told(
        YouTubeVosDataset(root),
        "003234408d: 2 of 9 masks",
        "0043f083b5: 1 of 6 masks that meta.json lists are not there: 00015 -> unpack the masks again",
        "0043f083b5: 1 frames from the first mask (00000) on have no mask: 00035 -> unpack the masks again",
    )


def test_missing_masks_without_a_list(root: Path):
    (root / "train/meta.json").unlink()
    film = root / "train/Annotations/003234408d"
    for name in ("00000", "00005"):  # the first object may come late
        (film / f"{name}.png").unlink()
    frames = root / "train/JPEGImages/003234408d"
    shutil.copy(frames / "00010.jpg", frames / "00012.jpg")  # frames in between are not labelled
    assert len(problems(YouTubeVosDataset(root)).splitlines()) == 1
    for name in ("00020", "00025", "00040"):
        (film / f"{name}.png").unlink()
    assert "003234408d: 3 frames from the first mask (00010) on have no mask: 00020, 00025, 00040" in problems(
        YouTubeVosDataset(root)
    )


def test_a_list_without_frames_is_enough(root: Path):
    meta = json.loads((root / "train/meta.json").read_text())
    for film in meta["videos"].values():
        for about in film["objects"].values():
            del about["frames"]
    (root / "train/meta.json").write_text(json.dumps(meta))
    assert problems(YouTubeVosDataset(root)) == ""
    meta["videos"]["0043f083b5"]["objects"]["1"]["frames"] = 3
    (root / "train/meta.json").write_text(json.dumps(meta))
    with pytest.raises(FileFormatError, match=r"meta\.json could not be read.* It should be YouTube-VOS"):
        YouTubeVosDataset(root)
