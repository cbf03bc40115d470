from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limnet.datasets.slices import SlicesDataset
from limnet.errors import FileFormatError, InputError, MissingFileError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_pictures import disc, write_picture

NAME = "slices"


def test_objects_patients_and_modalities(root: Path):
    dataset = SlicesDataset(root)
    cases = {case.name: case for case in dataset.all_cases()}
    assert len(cases) == 12
    case = cases["ct_p01_slice02"]
    assert (case.modality, case.patient, dict(case.labels)) == ("ct", "ct/p01", {1: "object 1", 2: "object 2"})
    np.testing.assert_array_equal(case.read_labels()[0], disc(20, 17, 9) * 1 + disc(20, 40, 9) * 2)
    assert case.read_image().array.dtype == np.uint16
    assert cases["us_p00_slice01"].read_image().is_color
    alone = SlicesDataset(root / "us", modality="us").all_cases()
    assert [(c.name, c.patient, c.modality) for c in alone[:1]] == [("p00_slice01", "p00", "us")]


def test_planted_faults(root: Path):
    write_picture(root / "ct/masks/p01_slice02_1.png", np.zeros((5, 5), np.uint8))
    told(SlicesDataset(root), "p01_slice02_2.png is (40, 56), p01_slice02_1.png (5, 5)")


def test_what_is_refused(root: Path):
    with pytest.raises(InputError, match="modality is 'xray'"):
        SlicesDataset(root, modality="xray")
    write_picture(root / "us/masks/p00_slice01.jpg", np.zeros((40, 56), np.uint8))
    with pytest.raises(FileFormatError, match=r"stored as JPEG are blurred: p00_slice01\.jpg"):
        SlicesDataset(root)
    shutil.rmtree(root / "us/masks")
    with pytest.raises(MissingFileError, match="there is no masks in"):
        SlicesDataset(root)


def test_many_objects_and_files_that_would_be_lost(tmp_path: Path):
    shape = (40, 40)
    write_picture(tmp_path / "images/cells.png", np.tile(np.arange(40, dtype=np.uint8), (40, 1)))
    for number in range(300):
        mask = np.zeros(shape, np.uint8)
        mask[number // 20, 2 * (number % 20)] = 255
        write_picture(tmp_path / f"masks/cells_{number + 1}.png", mask)
    dataset = SlicesDataset(tmp_path, modality="microscopy")
    assert problems(dataset) == ""
    labels = dataset.all_cases()[0].read_labels()
    assert (labels.dtype, int(labels.max()), len(np.unique(labels))) == (np.uint16, 300, 301)
    write_picture(tmp_path / "images/cells.jpg", np.zeros(shape, np.uint8))
    with pytest.raises(FileFormatError, match="images holds several files called cells"):
        SlicesDataset(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    pages = [Image.fromarray(np.full(shape, 40 * k, np.uint8)) for k in range(3)]
    pages[0].save(tmp_path / "images/cells.tif", save_all=True, append_images=pages[1:])
    assert "holds 3 pictures, one is expected" in problems(SlicesDataset(tmp_path))
