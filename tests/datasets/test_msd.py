from __future__ import annotations

import shutil
import sys
import types
from collections.abc import Callable
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
from limnet.datasets.registry import dataset_class
from limnet.errors import InputError, MissingFileError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_folders import change
from tests.helpers.fake_nifti import blocks, ct, write_nifti

NAME = "msd-colon"
Fake = Callable[[str], Path]


def names(dataset: MsdDataset, split: str) -> list[str]:
    return [case.name for case in dataset.cases(split)]


def test_colon_goes_by_the_published_numbers(good: Path):
    dataset = MsdColonDataset(good.parent)
    assert names(dataset, "train") == ["colon_005", "colon_026"]
    assert names(dataset, "val") == ["colon_001", "colon_011", "colon_022", "colon_218"]  # colon_212 is in no list
    assert "colon_212" in [case.name for case in dataset.all_cases()]
    assert dataset.cases("val")[0].labels == {1: "colon cancer primaries"}
    assert dataset.cases("val")[0].window == (-160.0, 240.0)
    assert names(MsdColonDataset(good), "train") == ["colon_005", "colon_026"]


def test_the_public_fold_of_3dsam_adapter(good: Path, fake: Fake):
    """Sizes of its fold 0; the colon list has 7 cases in common with Mem3D's, as a comparison of the files gives."""
    for lists, sizes in ((COLON["3dsam"], (11, 26)), (PANCREAS["3dsam"], (28, 57))):
        assert tuple(len(lists[split]) for split in ("val", "test")) == sizes
        assert not lists["val"] & lists["test"]
    assert len(COLON["mem3d"]["val"]) == 26
    assert len(COLON["mem3d"]["val"] & COLON["3dsam"]["test"]) == 7
    colon, pancreas = MsdColonDataset(good, protocol="3dsam"), MsdPancreasDataset(fake("msd-pancreas"))
    assert pancreas.protocol == "3dsam"
    assert names(colon, "test") == ["colon_026", "colon_218"]
    assert names(colon, "train") == ["colon_001", "colon_005", "colon_011", "colon_022", "colon_212"]
    assert names(pancreas, "test") == [f"pancreas_{n:03d}" for n in (6, 10, 15, 16, 18, 19)]
    assert pancreas.cases("test")[0].labels == {1: "pancreas", 2: "cancer"}
    for name, known in (("msd-colon", "mem3d, 3dsam"), ("msd-lung", "none")):
        with pytest.raises(InputError, match=f"protocol 'fold1' is unknown.* are {known}"):
            dataset_class(name)(fake(name), protocol="fold1")


def test_lung_keeps_the_published_share_of_cases(fake: Fake):
    lung = MsdLungDataset(fake("msd-lung"))
    assert [len(names(lung, split)) for split in lung.splits] == [6, 3]  # two to one
    assert names(lung, "val") == names(MsdLungDataset(lung.root, seed=0), "val")
    assert names(lung, "val") != names(MsdLungDataset(lung.root, seed=3), "val")
    assert lung.cases("val")[0].window == (-1000.0, 400.0)
    places = divide([f"case_{i}" for i in range(63)], ("train", "val"), (42, 21), 0)
    assert [list(places.values()).count(split) for split in ("train", "val")] == [42, 21]


def test_volumes_are_read_as_stored(good: Path):
    case = next(c for c in MsdColonDataset(good).all_cases() if c.name == "colon_005")
    stored = nibabel.load(good / "imagesTr/colon_005.nii.gz").get_fdata()
    np.testing.assert_array_equal(case.read_image().array, stored.T)
    assert case.read_image().spacing == pytest.approx((5.0, 0.8, 0.8))
    assert case.read_labels().dtype == np.uint8  # stored as floats


def test_planted_faults(root: Path):
    image = nibabel.load(root / "imagesTr/colon_001.nii.gz")
    shape = image.shape
    write_nifti(root / "labelsTr/colon_001.nii.gz", blocks(shape, (1, 2)), image.affine)
    write_nifti(root / "labelsTr/colon_005.nii.gz", blocks((14, 12, 4), (1,)))
    write_nifti(root / "imagesTr/colon_099.nii.gz", ct(shape))
    other = nibabel.load(root / "imagesTr/colon_011.nii.gz")
    write_nifti(root / "imagesTr/colon_011.nii.gz", np.stack([ct(other.shape)] * 2, axis=-1), other.affine)
    turned = nibabel.load(root / "labelsTr/colon_022.nii.gz")
    write_nifti(root / "labelsTr/colon_022.nii.gz", np.asarray(turned.dataobj), np.diag([-1, 1, 1, 1]) @ turned.affine)
    change(root, numTraining=126)
    told(
        MsdColonDataset(root),
        "colon_001: labels [2] are not in",
        "colon_005: the image is (7, 12, 14), its labels (4, 12, 14)",
        "imagesTr holds 1 cases that dataset.json does not list, such as colon_099",
        "numTraining 126 but lists 7",
        "colon_011.nii.gz holds 2 volumes, one is expected. Save that one as a file of its own",
        "colon_022: image and labels lie up to 22.4 mm apart in space",
    )


def test_a_count_that_is_wrong_in_the_archive_itself_is_no_problem(root: Path, monkeypatch: pytest.MonkeyPatch):
    change(root, numTraining=8)
    monkeypatch.setattr(MsdColonDataset, "labelled", 7)
    assert problems(MsdColonDataset(root)) == ""


def test_another_task_is_refused(fake: Fake, tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"lists no colon_###"):
        MsdColonDataset(fake("msd-lung"))
    with pytest.raises(MissingFileError, match=r"(?s)medicaldecathlon.*download=True"):
        MsdColonDataset(tmp_path)


def test_nothing_is_downloaded_unless_asked(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[dict] = []

    def download_and_extract(**given: object) -> None:
        asked.append(given)
        shutil.copytree(good, tmp_path / "data/Task10_Colon")

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

    def fail(**given: object) -> None:
        raise Exception("no network")  # as MONAI does

    monkeypatch.setattr(apps, "download_and_extract", fail)
    with pytest.raises(MissingFileError, match=r"could not be downloaded \(no network\)"):
        download_task("Task06_Lung", tmp_path)
