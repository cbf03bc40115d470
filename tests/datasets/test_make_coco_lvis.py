from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.coco_lvis import CocoLvisDataset
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers.fake_picture_sets import build_coco_sources, filled
from tests.helpers.fake_pictures import disc, write_picture
from tests.helpers.recipes import recipe

MAKE = recipe("make_coco_lvis")
Region, build_split, fill = MAKE.Region, MAKE.build_split, MAKE.fill
hierarchy, lay, merge, without = MAKE.hierarchy, MAKE.lay, MAKE.merge, MAKE.without


def test_from_the_sources_to_the_data_set(tmp_path: Path):
    root = build_coco_sources(tmp_path)
    MAKE.main(
        [
            *("--lvis", str(root / "lvis_v1_train.json"), "--panoptic", str(root / "panoptic_train2017.json")),
            *("--segments", str(root / "panoptic_train2017"), "--out", str(root / "coco_lvis/train")),
        ]
    )
    dataset = CocoLvisDataset(root / "coco_lvis")
    assert dataset.counts["train"] == {"000000000009": 4}
    case = dataset.cases("train")[0]
    labels = case.read_labels()
    things = [filled(5, 5, 44, 34), filled(15, 15, 29, 24), filled(10, 50, 29, 70), filled(35, 45, 48, 60)]
    grass = filled(45, 0, 59, 44) & ~np.logical_or.reduce(things)
    for number, mask in enumerate([*things, grass], 1):
        np.testing.assert_array_equal((labels == number).any(0), mask, err_msg=str(number))
        assert (labels == number).any((1, 2)).sum() == 1
    assert labels.max() == 5
    assert case.labels[5] == "stuff 1"
    assert case.read_image().shape == labels.shape
    listed = pickle.loads((root / "coco_lvis/train/hannotation.pickle").read_bytes())["000000000009"]["hierarchy"]
    assert listed == {
        0: {"children": [1], "parent": None, "node_level": 0},
        1: {"children": [], "parent": 0, "node_level": 1},
        2: None,
        3: None,
    }


def test_the_later_of_two_objects_stays():
    first, second, other = (Region(disc(20, c, 12)) for c in (20, 21, 40))
    small = Region(disc(5, 5, 4))
    assert merge([first, other, second, small], []) == [other, second]
    thing, new = Region(disc(20, 22, 12)), Region(disc(8, 50, 6))
    assert merge([first], [thing, new, small]) == [first, new]
    assert first.agrees(second, 0.85)
    assert not first.agrees(other, 0.1)


def test_parts_of_parts():
    outer, middle, inner, apart = (
        Region(m) for m in (disc(20, 20, 18), disc(20, 20, 9), disc(20, 20, 4), disc(9, 50, 5))
    )
    found = hierarchy([inner, apart, outer, middle])
    assert found[0] == {"children": [], "parent": 3, "node_level": 2}
    assert found[1] is None
    assert found[2] == {"children": [3], "parent": None, "node_level": 0}
    assert found[3] == {"children": [0], "parent": 2, "node_level": 1}
    assert hierarchy([outer, outer])[1] == {"children": [], "parent": 0, "node_level": 1}  # no circle


def test_stuff_is_what_objects_leave():
    sky = Region(np.indices((40, 56))[0] < 14)
    left = without([sky], [Region(disc(10, 20, 8))])
    np.testing.assert_array_equal(left[0].mask, sky.mask & ~disc(10, 20, 8))
    assert without([Region(disc(10, 20, 8))], [Region(disc(30, 40, 3))]) == []


def test_layers_hold_what_does_not_overlap():
    rng = np.random.default_rng(3)
    regions = [Region(disc(*rng.uniform(0, 40, 2), rng.uniform(2, 9))) for _ in range(60)]
    layers, places = lay(regions)
    for region, (layer, value) in zip(regions, places, strict=True):
        np.testing.assert_array_equal(layers[layer] == value, region.mask)
    single = np.zeros((20, 20), bool)
    points = []
    for row, column in np.ndindex(20, 20):
        mask = single.copy()
        mask[row, column] = True
        points.append(Region(mask))
    assert [int(layer.max()) for layer in lay(points)[0]] == [255, 145]


def test_polygons():
    assert fill([[0, 0, 4, 0, 4, 3, 0, 3]], 10, 10)[:4, :5].all()
    assert fill([[0, 0, 4, 0, 4, 3, 0, 3]], 10, 10).sum() == 20
    assert not fill([[1, 1, 2, 2]], 10, 10).any()


def test_what_is_refused(tmp_path: Path):
    root = build_coco_sources(tmp_path)
    files = [root / "lvis_v1_train.json", root / "panoptic_train2017.json"]
    with pytest.raises(MissingFileError, match=r"none\.json does not exist"):
        build_split(root / "none.json", files[1], root / "panoptic_train2017", root / "out", False)
    with pytest.raises(FileFormatError, match="It should be an LVIS v1 file"):
        build_split(files[1], files[1], root / "panoptic_train2017", root / "out", False)
    with pytest.raises(FileFormatError, match="It should be a COCO panoptic file"):
        build_split(files[0], files[0], root / "panoptic_train2017", root / "out", False)
    write_picture(root / "panoptic_train2017/000000000009.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(FileFormatError, match="do not belong together"):
        build_split(*files, root / "panoptic_train2017", root / "out", False)
    assert not (root / "out" / "hannotation.pickle").exists()
