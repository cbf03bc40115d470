"""A tiny COCO + LVIS: RITM's pickles with numpy's old module names, and the sources they are made from."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import SHAPE, disc, photo, write_picture

NAMES = {"train": ("000000000009", "000000000025", "000000000030"), "val": ("000000000139", "000000000285")}


def objects() -> list[tuple[NDArray[np.bool_], int]]:
    """(mask, layer): a person, its tie on top of it, a dog, and grass (stuff)."""
    person, tie, dog = disc(20, 16, 13), disc(20, 16, 4), disc(20, 44, 8)
    return [(person, 0), (tie, 1), (dog, 0), (np.indices(SHAPE)[0] >= 34, 1)]


def encoded(layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(layer).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8).copy().reshape(-1, 1)


def dump(path: Path, content: Any) -> None:
    """Pickle as numpy 1 under Python 3 did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))


def build(root: Path) -> Path:
    """RITM's layout; three instances, of which one is part of another, and one stuff region a picture."""
    for split, names in NAMES.items():
        listed = {}
        for number, name in enumerate(names):
            layers, mapping = [np.zeros(SHAPE, np.uint8) for _ in range(2)], []
            for mask, layer in objects():
                value = int(layers[layer].max()) + 1
                layers[layer][mask & (layers[layer] == 0)] = value
                mapping.append((layer, value))
            picture = photo(layers[0], number)
            if number == 1:
                picture = picture[..., 0]  # some are gray
            write_side_file(write_picture(root / split / "images" / f"{name}.jpg", picture))
            dump(root / split / "masks" / f"{name}.pickle", ([encoded(layer) for layer in layers], mapping))
            hierarchy = {
                0: {"children": [1], "parent": None, "node_level": 0},
                1: {"children": [], "parent": 0, "node_level": 1},
                2: None,
            }
            listed[name] = {"num_instance_masks": 3, "hierarchy": hierarchy}
        dump(root / split / "hannotation.pickle", listed)
    return root


def rectangle(top: int, left: int, bottom: int, right: int) -> list[float]:
    """Polygon of a box, x and y in turn; the last row and column belong to it."""
    return [left + 0.2, top - 0.3, right + 0.4, top, right, bottom + 0.1, left, bottom]


def filled(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    """The pixels of `rectangle`."""
    mask = np.zeros((60, 80), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def build_sources(root: Path) -> Path:
    """LVIS JSON, COCO panoptic JSON and PNG for two pictures, of which COCO has one."""
    lvis = {
        "images": [
            {
                "id": 9,
                "height": 60,
                "width": 80,
                "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg",
            },
            {
                "id": 10,
                "height": 60,
                "width": 80,
                "coco_url": "http://images.cocodataset.org/train2017/000000000010.jpg",
            },
        ],
        "annotations": [
            {"image_id": 9, "category_id": 1, "segmentation": [rectangle(5, 5, 44, 34)]},  # person
            {"image_id": 9, "category_id": 2, "segmentation": [rectangle(15, 15, 29, 24)]},  # part of it
            {"image_id": 9, "category_id": 3, "segmentation": [rectangle(50, 2, 54, 10)]},  # 45 px: too small
            {"image_id": 9, "category_id": 4, "segmentation": [rectangle(10, 50, 29, 69)]},  # again below
            {"image_id": 9, "category_id": 5, "segmentation": [rectangle(10, 50, 29, 70)]},
            {"image_id": 10, "category_id": 5, "segmentation": [rectangle(10, 50, 29, 70)]},
        ],
    }
    ids = np.zeros((60, 80), np.uint32)
    ids[filled(5, 5, 44, 35)] = 700  # the person again
    ids[filled(35, 45, 48, 60)] = 70000  # a thing LVIS lacks
    ids[filled(45, 0, 59, 44)] = 300  # stuff of 675 px
    ids[filled(50, 50, 55, 70)] = 301  # stuff of 126 px
    png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    write_picture(root / "panoptic_train2017" / "000000000009.png", png)
    info = [{"id": 700, "category_id": 1}, {"id": 70000, "category_id": 2, "iscrowd": 1}]
    info += [{"id": 300, "category_id": 100}, {"id": 301, "category_id": 101}]
    panoptic = {
        "categories": [{"id": n, "isthing": int(n < 100), "name": str(n)} for n in (1, 2, 100, 101)],
        "annotations": [{"image_id": 9, "file_name": "000000000009.png", "segments_info": info}],
    }
    (root / "lvis_v1_train.json").write_text(json.dumps(lvis))
    (root / "panoptic_train2017.json").write_text(json.dumps(panoptic))
    write_picture(root / "coco_lvis/train/images/000000000009.jpg", photo((ids > 0).astype(np.uint8)))
    return root
