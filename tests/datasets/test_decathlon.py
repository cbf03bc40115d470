from __future__ import annotations

import json

import numpy as np
import pytest

from limnet.datasets.decathlon import DecathlonDataset
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers.fake_folders import body, change, write_decathlon


def test_task(tmp_path):
    data = DecathlonDataset(write_decathlon(tmp_path))
    cases = data.all_cases()
    assert [c.name for c in cases] == [f"colon_{i:03d}" for i in range(5, 9)]
    assert cases[1].labels == {1: "colon", 2: "cancer"}
    assert cases[1].modality == "ct"
    assert np.array_equal(cases[1].read_image().array, body(1)[0].T)
    assert data.check() == []
    assert data.cases("train")
    assert data.cases("val")


@pytest.mark.parametrize("channel", [0, 1])
def test_channels(tmp_path, channel):
    case = DecathlonDataset(write_decathlon(tmp_path, channels=2), channel=channel).all_cases()[0]
    assert np.array_equal(case.read_image().array, body(0)[0].T + 1000 * channel)
    assert case.modality == "mr"


def test_listed_validation_and_separate_channel_files(tmp_path):
    write_decathlon(tmp_path)
    listed = json.loads((tmp_path / "dataset.json").read_text())["training"]
    first = {**listed[0], "image": [listed[1]["image"], listed[0]["image"]]}
    change(tmp_path, training=listed[:2], validation=[listed[2]])
    data = DecathlonDataset(tmp_path)
    assert [c.name for c in data.cases("val")] == ["colon_007"]
    change(tmp_path, training=[first], validation=[])
    case = DecathlonDataset(tmp_path, channel=1).all_cases()[0]
    assert np.array_equal(case.read_image().array, body(0)[0].T)
    with pytest.raises(FileFormatError, match="no channel 2"):
        DecathlonDataset(tmp_path, channel=2)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(MissingFileError, match=r"no dataset\.json"):
        DecathlonDataset(tmp_path)
    write_decathlon(tmp_path)
    change(tmp_path, numTraining=9)
    assert [p.what for p in DecathlonDataset(tmp_path).check()] == ["dataset.json says numTraining 9 but lists 4"]
    for path in (tmp_path / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(
        MissingFileError, match=r"none of the 4 case\(s\) of .*dataset\.json has both.*labelsTr/colon_005"
    ):
        DecathlonDataset(tmp_path)
    change(tmp_path, training=["./imagesTr/colon_006.nii.gz"])
    with pytest.raises(FileFormatError, match="lists nothing under 'training'"):
        DecathlonDataset(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(FileFormatError, match="holds a list"):
        DecathlonDataset(tmp_path)


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    write_decathlon(tmp_path)
    listed = []
    for number, path in enumerate(sorted((tmp_path / "imagesTr").glob("colon*"))):
        place = tmp_path / "Training" / f"case {number}"
        place.mkdir(parents=True)
        path.rename(place / "image.nii.gz")
        (tmp_path / "labelsTr" / path.name).rename(place / "label.nii.gz")
        listed.append({part: f"Training/case {number}/{part}.nii.gz" for part in ("image", "label")})
    change(tmp_path, training=listed)
    dataset = DecathlonDataset(tmp_path)
    assert [case.name for case in dataset.all_cases()] == [f"Training__case_{number}__image" for number in range(4)]
    assert dataset.check() == []
    assert len(dataset.cases("train")) + len(dataset.cases("val")) == 4
    assert dataset.cases("val")
