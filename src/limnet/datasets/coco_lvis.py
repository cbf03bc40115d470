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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.cache import smallest_unsigned
from limnet.data.dataset import LabelledCase, LabelledDataset, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.array_pickle import load_arrays
from limnet.datasets.expected import absent
from limnet.datasets.instances import InstanceNames
from limnet.errors import FileFormatError, MissingFileError
from limnet.image.io.pictures import read_picture
from limnet.image.volume import Volume


class CocoLvisDataset(LabelledDataset):
    """COCO + LVIS; labels number the objects of a picture, stuff last.

    Args:
        root: see the layout.
        fraction: not used, the split is published.
        seed: not used.
        stuff: take stuff regions (sky, grass, wall) as objects too.

    Raises:
        MissingFileError: the folder does not look like it.
    """

    title = "COCO + LVIS (RITM)"
    licence = "annotations CC BY 4.0, pictures under the terms of Flickr (COCO)"
    access = (
        "pictures from https://cocodataset.org (train2017, val2017), annotations: cocolvis_annotation.tar.gz of "
        "https://github.com/SamsungLabs/ritm_interactive_segmentation/releases, or recipes/make_coco_lvis.py"
    )
    layout = "train/images/000000000009.jpg\ntrain/masks/000000000009.pickle\ntrain/hannotation.pickle\n(val alike)"
    splits = ("train", "val")
    layered = True

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, stuff: bool = True) -> None:
        self.stuff = stuff
        self._counts: dict[str, dict[str, int]] = {}
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for train/hannotation.pickle and the like."""
        self.present = [split for split in self.splits if (self.root / split / "hannotation.pickle").is_file()]
        if not self.present:
            raise self.missing(f"there is no train/hannotation.pickle in {self.root}")

    def counts(self, split: str) -> dict[str, int]:
        """Name -> number of objects that are not stuff, of a split; read once, from the whole hannotation.pickle.

        Raises:
            FileFormatError: damaged, of another form, or a pickle that wants to make anything but arrays.
        """
        if split not in self._counts:
            self._counts[split] = _read_counts(self.root / split / "hannotation.pickle")
        return self._counts[split]

    def all_cases(self) -> list[LabelledCase]:
        """Pictures of both splits whose files are there."""
        return [case for split in self.present for case in self._in(split)]

    def cases(self, split: str) -> list[LabelledCase]:
        """Pictures of a split, by folder."""
        if split in self.splits and split not in self.present:
            return []
        return self._in(split) if split in self.present else super().cases(split)

    def split_of(self, case: LabelledCase) -> str | None:
        """By folder."""
        return case.name.split("_")[0]

    def check(self) -> list[Problem]:
        """Splits, pictures and masks by name, then every file."""
        problems = []
        for split in self.splits:
            if split not in self.present:
                what = f"there is no {split}/hannotation.pickle"
                problems.append(Problem("", what, f"{split} stays empty; get it: {self.access}"))
                continue
            for folder, suffix in (("images", ".jpg"), ("masks", ".pickle")):
                names = {p.stem for p in (self.root / split / folder).glob(f"*{suffix}") if not p.name.startswith(".")}
                source = f"{split}/hannotation.pickle ({folder})"
                problems += absent(self.counts(split), names, source, self.access, used=False)
        return problems + super().check()

    def _in(self, split: str) -> list[LabelledCase]:
        images, masks = self.root / split / "images", self.root / split / "masks"
        found = []
        for name, number in self.counts(split).items():
            image, mask = images / f"{name}.jpg", masks / f"{name}.pickle"
            if image.is_file() and mask.is_file():
                runs = [("object", 1, number)] if number else []
                names = InstanceNames(*runs, *([("stuff", number + 1, 65535)] if self.stuff else []))
                read = partial(read_repeated, image, mask), partial(read_layers, mask, None if self.stuff else number)
                found.append(LabelledCase(f"{split}_{name}", name, "photo", names, *read, cached=False))
        return found


def read_repeated(image: Path, masks: Path) -> Volume:
    """The picture once for each layer of its masks, (L, H, W, 3); it is held in memory once.

    Raises:
        MissingFileError: a file is not there.
        FileFormatError: damaged.
    """
    picture = read_picture(image, palette=False)[0]
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    layers = max(len(_read_masks(masks)[0]), 1)
    return Volume.from_array(np.broadcast_to(picture, (layers, *picture.shape)), source=image)


def read_layers(path: Path, first: int | None = None) -> NDArray[Any]:
    """Objects of a mask pickle, unsigned (L, H, W): label k is object k - 1.

    Args:
        path: the pickle.
        first: only that many objects; the others become background.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, of another form, or a pickle that wants to make anything but arrays.
    """
    layers, objects = _read_masks(path)
    try:
        decoded = [_decode(buffer) for buffer in layers]
        tables = np.zeros((len(layers), 256), np.uint32)
        for number, (layer, value) in enumerate(objects[:first], 1):
            tables[int(layer), int(value)] = number
        stacked = np.stack([table[layer] for table, layer in zip(tables, decoded, strict=True)])
    except (ValueError, TypeError, IndexError, OSError, SyntaxError) as error:
        raise FileFormatError(f"{path} does not hold layers and objects ({error}). Download it again") from error
    return smallest_unsigned(stacked)


def _decode(buffer: Any) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(np.asarray(buffer, np.uint8).tobytes())) as picture:
        layer = np.array(picture)
    if layer.ndim != 2 or layer.dtype != np.uint8:
        raise ValueError(f"a layer is {layer.dtype} {layer.shape}, not uint8 (H, W)")
    return layer


def _read_masks(path: Path) -> tuple[list[Any], list[Any]]:
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; check the path")
    with open(path, "rb") as file:
        content = load_arrays(file, path)
    if not (isinstance(content, (tuple, list)) and len(content) == 2):
        raise FileFormatError(f"{path} holds {type(content).__name__}, not (layers, objects). Download it again")
    return list(content[0]), list(content[1])


def _read_counts(path: Path) -> dict[str, int]:
    with open(path, "rb") as file:
        content = load_arrays(file, path)
    try:
        return {str(name): int(content[name]["num_instance_masks"]) for name in sorted(content)}
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path} is not {{name: {{'num_instance_masks': n}}}} ({error}). Download it again"
        ) from error


class CocoLvisDataModule(CaseDataModule):
    """Training slices and whole cases of COCO + LVIS; for interaction alone."""

    dataset_class = CocoLvisDataset
