"""iShape: 12,870 pictures of six kinds of thin, tangled, overlapping things, every thing an instance of its own.

Layout as unpacked from `ishape_dataset.tar` (the root may be `ishape_dataset` or the folder above)::

    ishape_dataset/antenna/train/image/*.jpg                                  or png; 1024 x 1024
    ishape_dataset/antenna/train/instance_map/*.png                           16 bits, same stems
    ishape_dataset/antenna/train/coco_format-mask_encoding=rle-instances_2017.json
    ishape_dataset/antenna/train/coco_format/                                 symbolic links to the above, not used

for antenna, branch, fence, hanger, log and wire, each with train and val. A value of the map is category * 1000 + k;
values below 1000 are background. Read or saved with 8 bits the ids are gone, which is refused. Ids of images restart
in every folder, so a case is named by sub-dataset, split and stem: "log_train_0001".

Splits: the owner's, 10,185 to train and 2,685 val. The JSON is used by `check` alone: which pictures there are and how
many instances each has. Its category names are placeholders; the folder names the kind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent
from limnet.datasets.instances import InstanceNames
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files, read_instances
from limnet.errors import LimnetError

KINDS = ("antenna", "branch", "fence", "hanger", "log", "wire")
LEAST = 1000  # smaller values of a map are background
_JSON = "coco_format-mask_encoding=rle-instances_2017.json"


class IShapeDataset(PictureSet):
    """iShape; labels are the ids of its instance maps, from 1000 on."""

    title = "iShape"
    licence = "CC0 (an older version of its page: CC BY-NC-SA)"
    access = "free download of ishape_dataset.tar (4.5 GB) from https://ishape.github.io"
    layout = (
        "ishape_dataset/antenna/train/image/*.jpg (or png)\nishape_dataset/antenna/train/instance_map/*.png (16 bits)\n"
        f"ishape_dataset/antenna/train/{_JSON}\n(antenna, branch, fence, hanger, log, wire; train and val)"
    )
    splits = ("train", "val")

    def find(self) -> None:
        """Look for the six folders in the root or in `ishape_dataset` below it."""
        below = self.root / "ishape_dataset"
        self.base = below if below.is_dir() else self.root
        if not any((self.base / kind / split / "instance_map").is_dir() for kind in KINDS for split in self.splits):
            raise self.missing(f"there is no antenna/train/instance_map, or of another kind, in {self.root}")

    def pictures(self) -> list[Picture]:
        """Pictures and maps paired by stem in each folder."""
        return [picture for kind in KINDS for split in self.splits for picture in self._in(kind, split)]

    def split_of(self, case: LabelledCase) -> str | None:
        """By the folder the files lie in."""
        return case.name.split("_")[1]

    def labels_of(self, picture: Picture) -> Callable[[], NDArray[Any]]:
        """Ids of the 16-bit map."""
        return partial(read_instances, picture.masks[0], LEAST)

    def check_files(self) -> list[Problem]:
        """Kinds that are missing; pictures and numbers of instances by the JSON files."""
        problems = []
        for kind in KINDS:
            for split in self.splits:
                folder = self.base / kind / split
                if not folder.is_dir():
                    problems.append(Problem(f"{kind}_{split}", f"there is no {kind}/{split}", f"get it: {self.access}"))
                    continue
                counts = _instances_listed(folder / _JSON)
                if counts is None:
                    what = f"there is no readable {_JSON} in {self.short(folder)}"
                    problems.append(Problem(f"{kind}_{split}", what, "unpack the archive again; cases need it not"))
                    continue
                source = f"the JSON file of {kind}/{split}"
                problems += absent(counts, picture_files(folder / "image"), source, self.access)
                problems += self._count(kind, split, counts)
        return problems

    def _count(self, kind: str, split: str, listed: Counter[str]) -> list[Problem]:
        problems = []
        for picture in self._in(kind, split):
            stem = picture.image.stem
            if stem not in listed or not picture.masks[0].is_file():
                continue
            try:
                number = np.count_nonzero(np.unique(read_instances(picture.masks[0], LEAST)))
            except LimnetError:
                continue  # told when the case is read
            if number != listed[stem]:
                what = f"its map holds {number} instances, the JSON file {listed[stem]}"
                problems.append(Problem(picture.name, what, "instances may be hidden behind others; else unpack again"))
        return problems

    def _in(self, kind: str, split: str) -> list[Picture]:
        folder = self.base / kind / split
        images, maps = picture_files(folder / "image"), picture_files(folder / "instance_map", ".png")
        labels = InstanceNames((kind, LEAST, 65535))
        found = []
        for stem in sorted({*images, *maps}):
            image = images.get(stem, folder / "image" / f"{stem}.jpg")
            mask = maps.get(stem, folder / "instance_map" / f"{stem}.png")
            name = case_name(kind, split, stem)
            found.append(Picture(name, name, image, (mask,), labels))
        return found


def _instances_listed(path: Path) -> Counter[str] | None:
    """Stem of a picture -> number of its annotations; ids may be numbers or texts."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stems = {str(entry["id"]): PurePosixPath(entry["file_name"]).stem for entry in content["images"]}
        counts = Counter(dict.fromkeys(stems.values(), 0))
        counts.update(stems[str(entry["image_id"])] for entry in content["annotations"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return counts


class IShapeDataModule(CaseDataModule):
    """Training clips and whole cases of iShape."""

    dataset_class = IShapeDataset
