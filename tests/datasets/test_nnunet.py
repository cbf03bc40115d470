from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from limnet.datasets.nnunet import NnUNetDataset
from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError
from tests.helpers.fake_folders import body, change, write_nnunet


@pytest.mark.parametrize("version", [1, 2])
def test_both_forms(tmp_path, version):
    data = NnUNetDataset(write_nnunet(tmp_path, version=version))
    cases = data.all_cases()
    assert [c.name for c in cases] == [f"abd_{i:03d}" for i in range(4)]
    assert cases[0].modality == "ct"
    assert cases[0].labels == ({1: "liver", 2: "tumour"} if version == 1 else {1: "liver / whole", 2: "whole"})
    assert np.array_equal(cases[3].read_image().array, body(3)[0].T)
    assert np.array_equal(cases[3].read_labels(), body(3)[1].T)
    assert data.check() == []
    assert data.cases("train")
    assert data.cases("val")
    assert data.cases("test") == []


def test_channel(tmp_path):
    case = NnUNetDataset(write_nnunet(tmp_path), channel=1).all_cases()[0]
    assert case.modality == "mr"
    assert np.array_equal(case.read_image().array, -body(0)[0].T)
    with pytest.raises(InputError, match=r"abd_000 has no channel 2; there are 0, 1"):
        NnUNetDataset(tmp_path, channel=2)


def test_ignored_label_is_background(tmp_path):
    write_nnunet(tmp_path)
    change(tmp_path, labels={"background": 0, "liver": 1, "ignore": 2})
    case = NnUNetDataset(tmp_path).all_cases()[0]
    assert case.labels == {1: "liver"}
    assert np.array_equal(case.read_labels(), (body(0)[1] == 1).T)


def test_folds_and_test_cases(tmp_path):
    write_nnunet(tmp_path)
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "labelsTs").mkdir()
    for channel in range(2):
        name = f"abd_003_000{channel}.nii.gz"
        (tmp_path / "imagesTr" / name).rename(tmp_path / "imagesTs" / name)
    (tmp_path / "labelsTr" / "abd_003.nii.gz").rename(tmp_path / "labelsTs" / "abd_003.nii.gz")
    folds = [
        {"train": ["abd_000", "abd_001"], "val": ["abd_002"]},
        {"train": ["abd_002"], "val": ["abd_000", "abd_001"]},
    ]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    data = NnUNetDataset(tmp_path, fold=1)
    assert [[c.name for c in data.cases(s)] for s in data.splits] == [["abd_002"], ["abd_000", "abd_001"], ["abd_003"]]
    assert [p.what for p in data.check()] == ["dataset.json says numTraining 4, there are 3"]
    with pytest.raises(InputError, match=r"2 fold\(s\), number 5"):
        NnUNetDataset(tmp_path, fold=5)
    (tmp_path / "splits_final.json").write_text("[{}]")
    with pytest.raises(FileFormatError, match="nnU-Net's form"):
        NnUNetDataset(tmp_path)


def test_listed_files(tmp_path):
    write_nnunet(tmp_path, count=1)
    entry = {
        "images": ["imagesTr/abd_000_0000.nii.gz", "imagesTr/abd_000_0001.nii.gz"],
        "label": "labelsTr/abd_000.nii.gz",
    }
    change(tmp_path, dataset={"first": entry})
    assert [c.name for c in NnUNetDataset(tmp_path, channel=1).all_cases()] == ["first"]
    change(tmp_path, dataset={"first": {**entry, "label": "labelsTr/gone.nii.gz"}})
    with pytest.raises(MissingFileError, match="gone"):
        NnUNetDataset(tmp_path)
    change(tmp_path, dataset={"first": entry, "second": {**entry, "label": "labelsTr/gone.nii.gz"}})
    found = NnUNetDataset(tmp_path)
    with pytest.warns(UserWarning, match="1 of 2 cases .* left out: second"):
        assert [c.name for c in found.all_cases()] == ["first"]
    change(tmp_path, dataset={"first": {"images": []}})
    with pytest.raises(FileFormatError, match="lacks 'images'"):
        NnUNetDataset(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"no dataset\.json"):
        NnUNetDataset(tmp_path)
    write_nnunet(tmp_path)
    for path in (tmp_path / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(MissingFileError, match="hold no pairs"):
        NnUNetDataset(tmp_path)


def test_incomplete_cases_are_left_out(tmp_path):
    write_nnunet(tmp_path, 10)
    whole = NnUNetDataset(tmp_path)
    places = {case.name: split for split in whole.splits for case in whole.cases(split)}
    (tmp_path / "labelsTr" / "abd_001.nii.gz").unlink()
    (tmp_path / "imagesTr" / "abd_004_0000.nii.gz").unlink()  # the other channel is there
    for channel in range(2):
        (tmp_path / "imagesTr" / f"abd_007_000{channel}.nii.gz").unlink()
    data = NnUNetDataset(tmp_path)
    with pytest.warns(UserWarning, match="3 of 10 cases in .* left out: abd_004, abd_007, abd_001. ") as said:
        found = {case.name: split for split in data.splits for case in data.cases(split)}
    assert len(said) == 1
    assert found == {name: split for name, split in places.items() if name not in ("abd_001", "abd_004", "abd_007")}
    assert [(p.case, p.what) for p in data.check()] == [
        ("abd_004", "left out, as imagesTr/abd_004_0000.nii.gz is not there"),
        ("abd_007", "left out, as imagesTr/abd_007_0000.nii.gz is not there"),
        ("abd_001", "left out, as labelsTr/abd_001.nii.gz is not there"),
    ]
    with pytest.warns(UserWarning, match="2 of 10 cases"):  # only that channel counts
        NnUNetDataset(tmp_path, channel=1).all_cases()


def test_folds_that_list_missing_cases(tmp_path):
    write_nnunet(tmp_path)
    for path in ("labelsTr/abd_001.nii.gz", "imagesTr/abd_001_0000.nii.gz", "imagesTr/abd_001_0001.nii.gz"):
        (tmp_path / path).unlink()
    folds = tmp_path / "splits_final.json"
    folds.write_text(json.dumps([{"train": ["abd_000", "abd_001"], "val": ["abd_002", "abd_003"]}]))
    data = NnUNetDataset(tmp_path)
    with pytest.warns(UserWarning, match="abd_001"):
        assert [c.name for c in data.cases("train")] == ["abd_000"]
    assert [p.what for p in data.check()] == [
        "left out, as imagesTr/abd_001_0000.nii.gz and labelsTr/abd_001.nii.gz are not there",
        "dataset.json says numTraining 4, there are 3",
    ]
    folds.write_text(json.dumps([{"train": ["liver_0"], "val": ["liver_1"]}]))
    with pytest.raises(MissingFileError, match=r"lists liver_0, liver_1, and none of them is there"):
        NnUNetDataset(tmp_path)


@pytest.mark.parametrize("labels", [None, [], {"liver": "x"}, {"liver": None}])
def test_labels_that_are_none(tmp_path, labels):
    write_nnunet(tmp_path, count=1)
    change(tmp_path, labels=labels)
    with pytest.raises(LimnetError, match="labels are expected as"):
        NnUNetDataset(tmp_path)


def test_spacing_of_tiff_stacks(tmp_path):
    for number in range(2):
        for folder, name in (("imagesTr", f"c_{number}_0000"), ("labelsTr", f"c_{number}")):
            (tmp_path / folder).mkdir(exist_ok=True)
            pages = [Image.fromarray(np.eye(20, dtype=np.uint8)) for _ in range(6)]
            pages[0].save(tmp_path / folder / f"{name}.tif", save_all=True, append_images=pages[1:])
        (tmp_path / "imagesTr" / f"c_{number}.json").write_text('{"spacing": [5, 0.5, 0.25]}')
    content = {"channel_names": {"0": "EM"}, "labels": {"background": 0, "cell": 1}, "file_ending": ".tif"}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "numTraining": 2}))
    volume = NnUNetDataset(tmp_path).all_cases()[0].read_image()
    assert (volume.shape, volume.spacing) == ((6, 20, 20), (5.0, 0.5, 0.25))
    (tmp_path / "imagesTr" / "c_0.json").write_text('{"spacing": [5]}')
    with pytest.raises(FileFormatError, match=r"should hold .*spacing"):
        NnUNetDataset(tmp_path).all_cases()[0].read_image()
    (tmp_path / "imagesTr" / "c_0.json").write_text('{"note": "of something else"}')
    assert NnUNetDataset(tmp_path).all_cases()[0].read_image().spacing == (1.0, 1.0, 1.0)


def test_names_with_blanks_and_cases_in_no_fold(tmp_path):
    write_nnunet(tmp_path)
    for path in sorted(tmp_path.glob("*Tr/abd_000*")):
        path.rename(path.with_name(path.name.replace("abd_000", "abd 000")))
    folds = [{"train": ["abd 000", "abd_001"], "val": ["abd_002"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    dataset = NnUNetDataset(tmp_path)
    assert [case.name for case in dataset.cases("train")] == ["abd_000", "abd_001"]
    found = "; ".join(problem.what for problem in dataset.check())
    assert "1 case(s) are in no list of splits_final.json and are not used: abd_003" in found
