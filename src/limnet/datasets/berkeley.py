"""Berkeley: 100 objects in 96 pictures, a benchmark of interactive segmentation in 2-D.

Layout as used by RITM::

    images/*.jpg
    masks/*.png            the picture's stem, or <stem>#<k> for the k-th object of a picture; object above 128

Nothing is trained on it: every case is "test".
"""

from __future__ import annotations

import re

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import count
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files

OBJECTS = 100


class BerkeleyDataset(PictureSet):
    """Berkeley; one case for each mask, label 1 is the object."""

    title = "Berkeley"
    licence = "research use, terms of the Berkeley segmentation data set"
    access = (
        "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (Berkeley)"
    )
    layout = "images/113044.jpg\nmasks/113044.png (or 113044#1.png, 113044#2.png)"
    splits = ("train", "val", "test")

    def find(self) -> None:
        """Look for both folders in the root or in `Berkeley` below it."""
        self.images = self.first_folder("images", "Berkeley/images")
        self.masks = self.images.parent / "masks"
        if not self.masks.is_dir():
            raise self.missing(f"there is no masks in {self.images.parent}")

    def pictures(self) -> list[Picture]:
        """A case for each mask; pictures without any are named too."""
        images, masks = picture_files(self.images), picture_files(self.masks)
        stems = {mask: mask if mask in images else re.sub(r"#\d+$", "", mask) for mask in masks}
        found = [
            Picture(case_name(mask), stem, images.get(stem, self.images / f"{stem}.jpg"), (masks[mask],))
            for mask, stem in stems.items()
        ]
        found += [
            Picture(case_name(stem), stem, images[stem], (self.masks / f"{stem}.png",))
            for stem in images
            if stem not in stems.values()
        ]
        return sorted(found, key=lambda picture: picture.name)

    def check_files(self) -> list[Problem]:
        """The number of objects."""
        return count(len(self.pictures()), OBJECTS, "objects", self.access)

    def split_of(self, case: LabelledCase) -> str | None:
        """Always "test"."""
        return "test"


class BerkeleyDataModule(CaseDataModule):
    """Whole cases of Berkeley; there is nothing to train on."""

    dataset_class = BerkeleyDataset
