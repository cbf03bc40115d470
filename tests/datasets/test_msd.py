from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.datasets.msd import (
    COLON,
    PANCREAS,
    MsdColonDataset,
    MsdDataset,
    MsdLungDataset,
    MsdPancreasDataset,
    divide,
    download_task,
)
from limnet.errors import InputError, MissingFileError
from tests.helpers.every_set import problems
from tests.helpers.fake_msd import build
from tests.helpers.fake_nifti import blocks, ct, write_nifti

KINDS = (MsdColonDataset, MsdLungDataset, MsdPancreasDataset)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("msd")
    for kind in KINDS:
        build(root, kind.task)
    return root


@pytest.fixture
def bad(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good / "Task10_Colon", tmp_path / "Task10_Colon")


def names(dataset: MsdDataset, split: str) -> list[str]:
    return [case.name for case in dataset.cases(split)]


def test_colon_goes_by_the_published_numbers(good: Path):
    dataset = MsdColonDataset(good)
    assert names(dataset, "train") == ["colon_005", "colon_026"]
    assert names(dataset, "val") == ["colon_001", "colon_011", "colon_022", "colon_218"]  # colon_212 is in no list
    assert "colon_212" in [case.name for case in dataset.all_cases()]
    assert dataset.cases("val")[0].labels == {1: "colon cancer primaries"}
    assert dataset.cases("val")[0].window == (-160.0, 240.0)
    assert names(MsdColonDataset(good / "Task10_Colon"), "train") == ["colon_005", "colon_026"]


def test_the_public_fold_of_3dsam_adapter(good: Path):
    """Sizes of its fold 0; the colon list has 7 cases in common with Mem3D's, as a comparison of the files gives."""
    for lists, sizes in ((COLON["3dsam"], (11, 26)), (PANCREAS["3dsam"], (28, 57))):
        assert tuple(len(lists[split]) for split in ("val", "test")) == sizes
        assert not lists["val"] & lists["test"]
    assert len(COLON["mem3d"]["val"]) == 26
    assert len(COLON["mem3d"]["val"] & COLON["3dsam"]["test"]) == 7
    colon, pancreas = MsdColonDataset(good, protocol="3dsam"), MsdPancreasDataset(good)
    assert pancreas.protocol == "3dsam"
    assert names(colon, "test") == ["colon_026", "colon_218"]
    assert names(colon, "train") == ["colon_001", "colon_005", "colon_011", "colon_022", "colon_212"]
    assert names(pancreas, "test") == [f"pancreas_{n:03d}" for n in (6, 10, 15, 16, 18, 19)]
    assert pancreas.cases("test")[0].labels == {1: "pancreas", 2: "cancer"}
    for kind, known in ((MsdColonDataset, "mem3d, 3dsam"), (MsdLungDataset, "none")):
        with pytest.raises(InputError, match=f"protocol 'fold1' is unknown.* are {known}"):
            kind(good, protocol="fold1")


def test_lung_keeps_the_published_share_of_cases(good: Path):
    lung = MsdLungDataset(good)
    assert [len(names(lung, split)) for split in lung.splits] == [6, 3]  # two to one
    assert names(lung, "val") == names(MsdLungDataset(good, seed=0), "val")
    assert names(lung, "val") != names(MsdLungDataset(good, seed=3), "val")
    assert lung.cases("val")[0].window == (-1000.0, 400.0)
    places = divide([f"case_{i}" for i in range(63)], ("train", "val"), (42, 21), 0)
    assert [list(places.values()).count(split) for split in ("train", "val")] == [42, 21]


def test_volumes_are_read_as_stored(good: Path):
    case = next(c for c in MsdColonDataset(good).all_cases() if c.name == "colon_005")
    stored = nibabel.load(good / "Task10_Colon/imagesTr/colon_005.nii.gz").get_fdata()
    np.testing.assert_array_equal(case.read_image().array, stored.T)
    assert case.read_image().spacing == pytest.approx((5.0, 0.8, 0.8))
    assert case.read_labels().dtype == np.uint8  # stored as floats


def test_planted_faults(bad: Path):
    image = nibabel.load(bad / "imagesTr/colon_001.nii.gz")
    shape = image.shape
    write_nifti(bad / "labelsTr/colon_001.nii.gz", blocks(shape, (1, 2)), image.affine)
    write_nifti(bad / "labelsTr/colon_005.nii.gz", blocks((14, 12, 4), (1,)))
    write_nifti(bad / "imagesTr/colon_099.nii.gz", ct(shape))
    other = nibabel.load(bad / "imagesTr/colon_011.nii.gz")
    write_nifti(bad / "imagesTr/colon_011.nii.gz", np.stack([ct(other.shape)] * 2, axis=-1), other.affine)
    turned = nibabel.load(bad / "labelsTr/colon_022.nii.gz")
    write_nifti(bad / "labelsTr/colon_022.nii.gz", np.asarray(turned.dataobj), np.diag([-1, 1, 1, 1]) @ turned.affine)
    content = json.loads((bad / "dataset.json").read_text())
    content["numTraining"] = 126
    (bad / "dataset.json").write_text(json.dumps(content))
    found = problems(MsdColonDataset(bad))
    assert "colon_001: labels [2] are not in" in found
    assert "colon_005: the image is (7, 12, 14), its labels (4, 12, 14)" in found
    assert "imagesTr holds 1 cases that dataset.json does not list, such as colon_099" in found
    assert "numTraining 126 but lists 7" in found
    assert "colon_011.nii.gz holds 2 volumes, one is expected. Save that one as a file of its own" in found
    assert "colon_022: image and labels lie up to 22.4 mm apart in space" in found
    assert len(found.splitlines()) == 6


def test_a_count_that_is_wrong_in_the_archive_itself_is_no_problem(bad: Path, monkeypatch: pytest.MonkeyPatch):
    content = json.loads((bad / "dataset.json").read_text())
    content["numTraining"] = 8
    (bad / "dataset.json").write_text(json.dumps(content))
    monkeypatch.setattr(MsdColonDataset, "labelled", 7)
    assert problems(MsdColonDataset(bad)) == ""


def test_another_task_is_refused(good: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"lists no colon_###"):
        MsdColonDataset(good / "Task06_Lung")
    with pytest.raises(MissingFileError, match=r"(?s)medicaldecathlon.*download=True"):
        MsdColonDataset(tmp_path)


def test_nothing_is_downloaded_unless_asked(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[dict] = []

    def download_and_extract(**given: object) -> None:
        asked.append(given)
        shutil.copytree(good / "Task10_Colon", tmp_path / "data/Task10_Colon")

    table = types.SimpleNamespace(resource={"Task10_Colon": "https://example.org/x.tar"}, md5={"Task10_Colon": "abc"})
    apps = types.ModuleType("monai.apps")
    apps.download_and_extract = download_and_extract  # type: ignore[attr-defined]
    apps.DecathlonDataset = table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "monai", types.ModuleType("monai"))
    monkeypatch.setitem(sys.modules, "monai.apps", apps)
    with pytest.raises(MissingFileError):
        MsdColonDataset(tmp_path / "data")
    assert asked == []
    dataset = MsdColonDataset(tmp_path / "data", download=True)
    assert len(dataset.all_cases()) == 7
    assert len(asked) == 1
    assert (asked[0]["hash_val"], asked[0]["hash_type"]) == ("abc", "md5")
    assert asked[0]["filepath"] == tmp_path / "data/Task10_Colon.tar"
    MsdColonDataset(tmp_path / "data/Task10_Colon", download=True)  # it is there already
    assert len(asked) == 1


def test_the_download_goes_beside_a_folder_that_bears_the_tasks_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    apps = pytest.importorskip("monai.apps")
    asked: list[dict] = []
    monkeypatch.setattr(apps, "download_and_extract", lambda **given: asked.append(given))
    assert download_task("Task06_Lung", tmp_path / "Task06_Lung") == tmp_path / "Task06_Lung"
    assert asked[0]["output_dir"] == tmp_path
    assert asked[0]["hash_val"] == "8afd997733c7fc0432f71255ba4e52dc"
