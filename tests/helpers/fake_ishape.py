"""A tiny iShape: six kinds, 16-bit instance maps, RLE JSON with colliding ids, symbolic links, jpg and png."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import SHAPE, disc, photo, write_picture

KINDS = ("antenna", "branch", "fence", "hanger", "log", "wire")
JSON = "coco_format-mask_encoding=rle-instances_2017.json"


def build(root: Path, count: int = 2) -> Path:
    """Write `root`/ishape_dataset; returns `root`. Values of the maps: 1000, 1001 objects, 7 background."""
    for k, kind in enumerate(KINDS):
        for split in ("train", "val"):
            folder = root / "ishape_dataset" / kind / split
            images, annotations = [], []
            for number in range(count):
                values = np.full(SHAPE, 7, np.uint16)
                values[disc(14, 16 + number, 9)] = 1000
                values[disc(26, 40, 8 + k / 2)] = 1001
                suffix = "png" if kind == "wire" else "jpg"
                path = folder / "image" / f"{number}.{suffix}"
                write_side_file(write_picture(path, photo((values >= 1000) * (values % 7 + 1), k)))
                write_picture(folder / "instance_map" / f"{number}.png", values)
                identity = number + 1  # starts anew in every folder
                images.append({"id": identity if kind != "log" else str(identity), "file_name": path.name})
                annotations += [{"image_id": identity, "iscrowd": 0, "category_id": 1} for _ in range(2)]
            content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat1"}]}
            (folder / JSON).write_text(json.dumps(content))
            (folder / "coco_format").mkdir()
            with contextlib.suppress(OSError):  # no links on some systems
                (folder / "coco_format" / f"{split}2017").symlink_to("../image")
                (folder / "coco_format" / "instances_train2017.json").symlink_to(f"../{JSON}")
    return root
