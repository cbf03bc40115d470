from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from limnet.data.files import files_below, load_pickle, walk
from limnet.datasets.bids import BidsDataset
from limnet.datasets.cvpr25 import Cvpr25Dataset
from limnet.datasets.endovis18 import EndoVis18Dataset
from limnet.datasets.folder import FolderDataset
from limnet.datasets.static_sets import StaticSetsDataset
from limnet.errors import FileFormatError
from tests.helpers.fake_folders import write_folder
from tests.helpers.fake_picture_sets import build_endovis18, build_original_static_sets
from tests.helpers.fake_volumes import build_bids, build_cvpr25


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    root, far = tmp_path / "root", tmp_path / "far"
    touch(root / "b.txt", root / ".hidden", root / "__MACOSX/x", root / ".git/x", root / "p/a.txt", far / "q/c.txt")
    (root / "linked").symlink_to(far)
    (root / "again").symlink_to(far)
    (far / "q" / "back").symlink_to(root)
    (root / "p" / "up").symlink_to(root)
    (root / "lost.txt").symlink_to(tmp_path / "nowhere")
    names = [path.relative_to(root).as_posix() for path in files_below(root)]
    assert names == ["again/q/c.txt", "b.txt", "linked/q/c.txt", "lost.txt", "p/a.txt"]
    assert [place.name for place, _ in walk(root, lambda place: place.name != "q")] == ["root", "again", "linked", "p"]


def moved_away(folder: Path, store: Path) -> None:
    """Put a folder elsewhere and a link in its place."""
    store.mkdir(exist_ok=True)
    folder.rename(store / folder.name)
    folder.symlink_to(store / folder.name)


@pytest.mark.parametrize(
    ("kind", "build", "linked"),
    [
        (BidsDataset, build_bids, ["derivatives/synth", "sub-01"]),
        (Cvpr25Dataset, build_cvpr25, ["3D_train_npz_all/*"]),
        (StaticSetsDataset, build_original_static_sets, ["*/*"]),
        (EndoVis18Dataset, build_endovis18, ["miccai_challenge_2018_release_1", "test_data/seq_2"]),
    ],
)
def test_data_sets_put_together_by_links(kind, build, linked, tmp_path: Path):
    root = build(tmp_path / "root")
    before = [case.name for case in kind(root).all_cases()]
    for number, pattern in enumerate(linked):
        for folder in sorted(path for path in root.glob(pattern) if path.is_dir()):
            moved_away(folder, tmp_path / f"store{number}")
    assert [case.name for case in kind(root).all_cases()] == before


def test_folders_of_patients_may_be_links(tmp_path: Path):
    write_folder(tmp_path / "root", 1)
    write_folder(tmp_path / "other", 1)
    for name in ("images", "masks"):
        (tmp_path / "root" / name / "p2").symlink_to(tmp_path / "other" / name)
    assert [case.name for case in FolderDataset(tmp_path / "root").all_cases()] == ["case0", "p2__case0"]


HERE = Path("x.pickle")


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_arrays_in_containers_come_back(protocol: int):
    content = {"a": ([np.arange(6, dtype=np.uint8)], [(0, np.int64(3))]), 5: None}
    found = load_pickle(io.BytesIO(pickle.dumps(content, protocol)), HERE)
    np.testing.assert_array_equal(found["a"][0][0], np.arange(6))
    assert found["a"][1] == [(0, 3)]
    assert found[5] is None


def test_the_old_name_of_numpys_core_is_understood():
    data = pickle.dumps(np.arange(3), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in data
    np.testing.assert_array_equal(load_pickle(io.BytesIO(data), HERE), [0, 1, 2])


def test_object_arrays_come_back():
    boxes = np.array([{"z_min": 1}, {"z_min": 2}], dtype=object)
    assert load_pickle(io.BytesIO(pickle.dumps(boxes)), HERE).tolist() == [{"z_min": 1}, {"z_min": 2}]


class Command:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFormatError, match=r"x\.pickle wants to load .*mkdir"):
        load_pickle(io.BytesIO(pickle.dumps([Command()])), HERE)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_pickle_is_damaged():
    with pytest.raises(FileFormatError, match="damaged"):
        load_pickle(io.BytesIO(pickle.dumps(np.arange(100))[:60]), HERE)
