from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.coco_lvis import CocoLvisDataset
from limnet.errors import FileFormatError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_nifti import damage
from tests.helpers.fake_picture_sets import COCO_NAMES, coco_objects, dump, encoded
from tests.helpers.fake_pictures import SHAPE

NAME = "coco-lvis"


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_layers_are_slices(root: Path):
    dataset = CocoLvisDataset(root)
    assert [c.name for c in dataset.cases("train")] == [f"train_{name}" for name in COCO_NAMES["train"]]
    assert [c.name for c in dataset.cases("val")] == [f"val_{name}" for name in COCO_NAMES["val"]]
    case = dataset.cases("train")[0]
    volume, labels = case.read_image(), case.read_labels()
    assert volume.array.shape == (2, *SHAPE, 3)
    assert volume.array.strides[0] == 0  # the picture is in memory once
    np.testing.assert_array_equal(volume.array[0], volume.array[1])
    for number, (mask, layer) in enumerate(coco_objects(), 1):
        np.testing.assert_array_equal(labels[layer] == number, mask)
        assert not (labels[1 - layer] == number).any()
    assert [case.labels[k] for k in (1, 3, 4)] == ["object 1", "object 3", "stuff 1"]
    assert dataset.cases("train")[1].read_image().is_color  # a gray picture
    # those made before numpy renamed its modules
    assert b"numpy.core." in (root / "train/masks/000000000009.pickle").read_bytes()


def test_without_stuff(root: Path):
    case = CocoLvisDataset(root, stuff=False).cases("val")[0]
    assert set(np.unique(case.read_labels())) == {0, 1, 2, 3}
    assert 4 not in case.labels


def test_code_in_a_pickle_is_refused(root: Path, capsys: pytest.CaptureFixture[str]):
    path = root / "train/masks/000000000025.pickle"
    path.write_bytes(pickle.dumps(([Evil()], [])))
    case = CocoLvisDataset(root).cases("train")[1]
    with pytest.raises(FileFormatError, match=r"wants to load builtins\.print"):
        case.read_labels()
    (root / "val/hannotation.pickle").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FileFormatError, match=r"hannotation\.pickle wants to load builtins\.print"):
        CocoLvisDataset(root)
    assert capsys.readouterr().out == ""


def test_planted_faults(root: Path):
    train = root / "train"
    (train / "images/000000000009.jpg").unlink()
    damage(train / "masks/000000000025.pickle")
    dump(train / "masks/000000000030.pickle", ([encoded(np.zeros((4, 4), np.uint8))], [(3, 1)]))
    (root / "val/hannotation.pickle").unlink()
    told(
        CocoLvisDataset(root),
        "there is no val/hannotation.pickle -> val stays empty",
        "1 of 3 cases of train/hannotation.pickle (images) are missing: 000000000009",
        "000000000025.pickle could not be read",
        "000000000030.pickle could not be read ... It does not hold layers and objects",
    )
    dump(train / "masks/000000000025.pickle", [1, 2, 3])
    assert "holds list, not (layers, objects)" in problems(CocoLvisDataset(root))
    dump(train / "hannotation.pickle", {"a": 1})
    with pytest.raises(FileFormatError, match="num_instance_masks"):
        CocoLvisDataset(root)
