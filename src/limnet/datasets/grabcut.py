"""GrabCut: 50 pictures with one object each, a benchmark of interactive segmentation in 2-D.

Layout as used by RITM::

    data_GT/*.jpg, *.JPG, *.bmp              pictures
    boundary_GT/*.bmp                        same stems: above 128 object, 128 a band that is not scored, 0 background

Nothing is trained on it: every case is "test". The unscored band is background in the labels; `void` gives it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import count
from limnet.datasets.pictures import Picture, PictureSet, brightness, case_name, picture_files
from limnet.errors import InputError

BAND = 128
OBJECTS = 50


class GrabCutDataset(PictureSet):
    """GrabCut; label 1 is the object."""

    title = "GrabCut"
    licence = "research use, terms of its owner"
    access = "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (GrabCut)"
    layout = "data_GT/flower.jpg (or bmp)\nboundary_GT/flower.bmp"
    splits = ("train", "val", "test")

    def find(self) -> None:
        """Look for both folders in the root or in `GrabCut` below it."""
        self.images = self.first_folder("data_GT", "GrabCut/data_GT")
        self.masks = self.images.parent / "boundary_GT"
        if not self.masks.is_dir():
            raise self.missing(f"there is no boundary_GT in {self.images.parent}")

    def pictures(self) -> list[Picture]:
        """Pictures and masks of the same stem."""
        images, masks = picture_files(self.images), picture_files(self.masks)
        return [
            Picture(
                case_name(stem),
                stem,
                images.get(stem, self.images / f"{stem}.jpg"),
                (masks.get(stem, self.masks / f"{stem}.bmp"),),
            )
            for stem in sorted({*images, *masks})
        ]

    def check_files(self) -> list[Problem]:
        """The number of pictures."""
        return count(len(self.pictures()), OBJECTS, "pictures", self.access)

    def split_of(self, case: LabelledCase) -> str | None:
        """Always "test"."""
        return "test"

    def void(self, name: str) -> NDArray[np.bool_]:
        """Pixels of a case that are not scored, (1, H, W).

        Raises:
            InputError: no case of that name.
        """
        found = next((picture for picture in self.pictures() if picture.name == name), None)
        if found is None:
            raise InputError(f"there is no case {name!r} in {self.root}; names are those of the pictures")
        return (brightness(found.masks[0]) == BAND)[None]


class GrabCutDataModule(CaseDataModule):
    """Whole cases of GrabCut; there is nothing to train on."""

    dataset_class = GrabCutDataset
