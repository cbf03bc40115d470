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

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, InstanceNames, Problem
from limnet.data.files import by_stem, case_name, pairs_by_stem, read_json
from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset, read_instances
from limnet.errors import LimnetError
from limnet.image.io.reading import explained

KINDS = ("antenna", "branch", "fence", "hanger", "log", "wire")
LEAST = 1000  # smaller values of a map are background
_JSON = "coco_format-mask_encoding=rle-instances_2017.json"


class IShapeDataset(PictureDataset):
    """iShape; labels are the ids of its instance maps, from 1000 on."""

    title = "iShape"
    licence = "CC0 (an older version of its page: CC BY-NC-SA)"
    access = "free download of ishape_dataset.tar (4.5 GB) from https://ishape.github.io"

    def list_files(self) -> Iterable[CaseFiles]:
        """Pictures and maps paired by stem in each folder."""
        base = self.first_folder("ishape_dataset", "")
        self.parts = {(kind, split): base / kind / split for kind in KINDS for split in self.splits}
        if not any((folder / "instance_map").is_dir() for folder in self.parts.values()):
            raise self.missing(f"there is no antenna/train/instance_map, or of another kind, in {self.root}")
        for (kind, split), folder in self.parts.items():
            labels = InstanceNames((kind, LEAST, 65535))
            for _, stem, image, mask in pairs_by_stem(folder / "image", folder / "instance_map", (), (".png",)):
                name = case_name(kind, split, stem)
                yield CaseFiles(name, name, image, (mask,), "photo", split, labels)

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """Ids of the 16-bit map."""
        return partial(read_instances, files.masks[0], LEAST)

    def check_files(self) -> list[Problem]:
        """Kinds that are missing; pictures and numbers of instances by the JSON files."""
        problems = []
        for (kind, split), folder in self.parts.items():
            if not folder.is_dir():
                problems.append(Problem(f"{kind}_{split}", f"there is no {kind}/{split}", f"get it: {self.access}"))
                continue
            try:
                counts = _instances_listed(folder / _JSON)
            except LimnetError:
                what = f"there is no readable {_JSON} in {self.short(folder)}"
                problems.append(Problem(f"{kind}_{split}", what, "unpack the archive again; cases need it not"))
                continue
            problems += self.compare(counts, by_stem(folder / "image"), f"the JSON file of {kind}/{split}")
            for files in self.files:
                if files.image.parent.parent == folder and files.image.stem in counts and files.masks[0].is_file():
                    problems += _compare_number(files, counts[files.image.stem])
        return problems


def _compare_number(files: CaseFiles, listed: int) -> list[Problem]:
    try:
        number = np.count_nonzero(np.unique(read_instances(files.masks[0], LEAST)))
    except LimnetError:
        return []  # told when the case is read
    what = f"its map holds {number} instances, the JSON file {listed}"
    advice = "instances may be hidden behind others; else unpack again"
    return [Problem(files.name, what, advice)] if number != listed else []


def _instances_listed(path: Path) -> Counter[str]:
    """Stem of a picture -> number of its annotations; ids may be numbers or texts."""
    content = read_json(path)
    with explained(path):
        stems = {str(entry["id"]): PurePosixPath(entry["file_name"]).stem for entry in content["images"]}
        counts = Counter(dict.fromkeys(stems.values(), 0))
        counts.update(stems[str(entry["image_id"])] for entry in content["annotations"])
    return counts


IShapeDataModule = data_module(IShapeDataset)
