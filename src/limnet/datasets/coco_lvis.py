"""COCO + LVIS as RITM merged them: 99 thousand everyday pictures with every object, part and stuff region.

Layout (the root is the LVIS folder)::

    train/images/000000000009.jpg          COCO train2017; val/images is val2017
    train/masks/000000000009.pickle        RITM's cocolvis_annotation.tar.gz, or made by recipes/make_coco_lvis.py
    train/hannotation.pickle               {name: {"num_instance_masks": n, "hierarchy": {...}}}

A mask pickle is (layers, objects): layers are PNG-encoded uint8 buffers, objects a list of (layer, value). Objects from
num_instance_masks on are stuff. Pickles are opened so that they can only make arrays, never run code.

Objects overlap, so no single label map holds them. A case therefore has one slice for each layer: the picture again and
again in front of the labels of layer 0, 1, ... ; label k is object k - 1. That suits training on single slices; it is
no volume to propagate through. Splits: the owner's, train and val.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import CaseFiles, InstanceNames, Problem
from limnet.data.files import by_stem, load_pickle, smallest_unsigned
from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset, read_colours
from limnet.errors import FileFormatError
from limnet.image.io.reading import explained
from limnet.image.volume import Volume


@dataclass(eq=False, repr=False)
class CocoLvisDataset(PictureDataset):
    """COCO + LVIS; labels number the objects of a picture, stuff regions (sky, grass, wall) last, if at all."""

    title = "COCO + LVIS (RITM)"
    licence = "annotations CC BY 4.0, pictures under the terms of Flickr (COCO)"
    access = (
        "pictures from https://cocodataset.org (train2017, val2017), annotations: cocolvis_annotation.tar.gz of "
        "https://github.com/SamsungLabs/ritm_interactive_segmentation/releases, or recipes/make_coco_lvis.py"
    )
    layered = True
    stuff: bool = True

    def list_files(self) -> Iterable[CaseFiles]:
        """Pictures of both splits that hannotation.pickle lists and whose files are there."""
        lists = {split: self.root / split / "hannotation.pickle" for split in self.splits}
        self.counts = {split: _read_counts(path) for split, path in lists.items() if path.is_file()}
        if not self.counts:
            raise self.missing(f"there is no train/hannotation.pickle in {self.root}")
        for split, counts in self.counts.items():
            images, masks = self.root / split / "images", self.root / split / "masks"
            for name, number in counts.items():
                runs = [("object", 1, number)] if number else []
                labels = InstanceNames(*runs, *([("stuff", number + 1, 65535)] if self.stuff else []))
                image, mask = images / f"{name}.jpg", masks / f"{name}.pickle"
                if image.is_file() and mask.is_file():  # of 118 thousand pictures `check_files` counts the others
                    yield CaseFiles(f"{split}_{name}", name, image, (mask,), "photo", split, labels)

    def image_of(self, files: CaseFiles) -> Callable[[], Volume]:
        """The picture once for each layer."""
        return partial(read_repeated, files.image, files.masks[0])

    def labels_of(self, files: CaseFiles) -> Callable[[], NDArray[Any]]:
        """The layers."""
        number = self.counts[str(files.split)][files.patient]
        return partial(read_layers, files.masks[0], None if self.stuff else number)

    def check_files(self) -> list[Problem]:
        """Splits, pictures and masks by name."""
        problems = []
        for split in self.splits:
            if split not in self.counts:
                what = f"there is no {split}/hannotation.pickle"
                problems.append(Problem("", what, f"{split} stays empty; get it: {self.access}"))
                continue
            for folder, suffix in (("images", ".jpg"), ("masks", ".pickle")):
                source = f"{split}/hannotation.pickle ({folder})"
                there = by_stem(self.root / split / folder, suffix)
                problems += self.compare(self.counts[split], there, source, used=False)
        return problems


def read_repeated(image: Path, masks: Path) -> Volume:
    """The picture once for each layer of its masks, (L, H, W, 3); it is held in memory once."""
    picture = read_colours(image)
    layers = max(len(_read_masks(masks)[0]), 1)
    return Volume.from_array(np.broadcast_to(picture, (layers, *picture.shape)), source=image)


def read_layers(path: Path, first: int | None = None) -> NDArray[Any]:
    """Objects of a mask pickle, unsigned (L, H, W): label k is object k - 1; only the `first` so many, if given.

    FileFormatError if it is damaged, of another form, or wants to make anything but arrays.
    """
    layers, objects = _read_masks(path)
    with explained(path, "It does not hold layers and objects: download it again"):
        decoded = [_decode(buffer) for buffer in layers]
        tables = np.zeros((len(layers), 256), np.uint32)
        for number, (layer, value) in enumerate(objects[:first], 1):
            tables[int(layer), int(value)] = number
        return smallest_unsigned(np.stack([table[layer] for table, layer in zip(tables, decoded, strict=True)]))


def _decode(buffer: Any) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(np.asarray(buffer, np.uint8).tobytes())) as picture:
        layer = np.array(picture)
    if layer.ndim != 2 or layer.dtype != np.uint8:
        raise ValueError(f"a layer is {layer.dtype} {layer.shape}, not uint8 (H, W)")
    return layer


def _read_masks(path: Path) -> tuple[list[Any], list[Any]]:
    with explained(path), open(path, "rb") as file:
        content = load_pickle(file, path)
    if not (isinstance(content, (tuple, list)) and len(content) == 2):
        raise FileFormatError(f"{path} holds {type(content).__name__}, not (layers, objects). Download it again")
    return list(content[0]), list(content[1])


def _read_counts(path: Path) -> dict[str, int]:
    """Name -> number of objects that are not stuff."""
    with explained(path, "It should be {name: {'num_instance_masks': n}}: download it again"), open(path, "rb") as file:
        content = load_pickle(file, path)
        return {str(name): int(content[name]["num_instance_masks"]) for name in sorted(content)}


CocoLvisDataModule = data_module(CocoLvisDataset)
