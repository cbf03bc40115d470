from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.youtube_vos import YouTubeVosDataset
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers.dataset_problems import problems
from tests.helpers.fake_films import FRAMES, YOUTUBE_FILMS, build_youtube, moving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_youtube(tmp_path)


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
    again = {c.name for c in YouTubeVosDataset(root, seed=1).cases("val")}
    assert {c.name for c in dataset.cases("val")} == {c.name for c in YouTubeVosDataset(root).cases("val")}
    assert again <= set(YOUTUBE_FILMS)


def test_smaller_copy_and_subset(root: Path, tmp_path: Path):
    build_youtube(root, "train_480p")
    listed = tmp_path / "yv_subset.txt"
    listed.write_text("0043f083b5\n005a527edd\n")
    dataset = YouTubeVosDataset(root, subset=listed)
    assert dataset.base.name == "train_480p"
    assert dataset.videos["003234408d"][2] == "zebra"  # meta.json of train
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
    found = problems(YouTubeVosDataset(root))
    assert "1 of 4 cases of meta.json are missing: 005a527xxx" in found
    assert "1 cases are not in meta.json: 005a527edd" in found
    assert "003234408d: 1 of 9 masks have no frame" in found
    assert "0044fa5fba: no frame of train/JPEGImages/0044fa5fba has a mask" in found
    assert len(found.splitlines()) == 4
    (root / "train/meta.json").unlink()
    assert "categories are not known" in problems(YouTubeVosDataset(root))
    (root / "train/meta.json").write_text("[1]")
    with pytest.raises(FileFormatError, match=r"meta\.json is not as expected"):
        YouTubeVosDataset(root)
