from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from limnet.datasets.ishape import IShapeDataset
from tests.helpers.every_set import told
from tests.helpers.fake_picture_sets import ISHAPE_JSON
from tests.helpers.fake_pictures import SHAPE, disc, write_picture

NAME = "ishape"


def test_splits_names_and_ids(root: Path):
    dataset = IShapeDataset(root)
    train = dataset.cases("train")
    assert len(train) == len(dataset.cases("val")) == 12
    assert [c.name for c in train[:3]] == ["antenna_train_0", "antenna_train_1", "branch_train_0"]
    assert [c.name for c in IShapeDataset(root / "ishape_dataset").cases("val")][-1] == "wire_val_1"
    case = train[0]
    assert (case.modality, case.labels[1000], case.labels[1001]) == ("photo", "antenna 1", "antenna 2")
    assert 7 not in case.labels
    volume, labels = case.read_image(), case.read_labels()
    assert volume.is_color
    assert volume.array.shape == (1, *SHAPE, 3)
    assert labels.dtype == np.uint16
    expected = np.where(disc(26, 40, 8), 1001, np.where(disc(14, 16, 9), 1000, 0))
    np.testing.assert_array_equal(labels[0], expected)


def test_planted_faults(root: Path):
    base = root / "ishape_dataset"
    shutil.rmtree(base / "wire" / "val")
    (base / "log/train/image/0.jpg").unlink()
    path = base / "hanger/train/instance_map/0.png"
    write_picture(path, (np.array(Image.open(path)) // 256).astype(np.uint8))  # what an 8-bit program leaves
    write_picture(base / "fence/train/instance_map/1.png", np.full(SHAPE, 3, np.uint16))
    write_picture(base / "branch/train/instance_map/1.png", np.full((8, 9), 1000, np.uint16))
    (base / "antenna/val" / ISHAPE_JSON).unlink()
    content = json.loads((base / "branch/val" / ISHAPE_JSON).read_text())
    content["annotations"].append({"image_id": "1"})
    (base / "branch/val" / ISHAPE_JSON).write_text(json.dumps(content))
    told(
        IShapeDataset(root),
        "wire_val: there is no wire/val",
        "log_train_0: left out, as ishape_dataset/log/train/image/0.jpg is not there",
        "1 of 2 cases of the JSON file of log/train are missing: 0",
        "0.png is uint8 (40, 56): ids from 1000 need a gray picture of 16 bits",
        "fence_train_1: its map holds 0 instances, the JSON file 2",
        "fence_train_1: no voxel is labelled",
        "branch_train_1: its map holds 1 instances, the JSON file 2",
        "branch_train_1: the image is (1, 40, 56), its labels (1, 8, 9)",
        "antenna_val: there is no readable coco_format",
        "branch_val_0: its map holds 2 instances, the JSON file 3",
    )
