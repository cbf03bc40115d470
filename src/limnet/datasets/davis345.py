"""DAVIS-345: 345 frames of the DAVIS films with one mask each, a benchmark of interactive segmentation in 2-D.

Layout as used by RITM (there called DAVIS)::

    img/*.jpg
    gt/*.png               same stems; a pixel of which any channel is above 0 belongs to the object

Nothing is trained on it: every case is "test". Do not confuse it with DAVIS-585 (`davis585`), which has initial masks,
or with the films themselves (`davis2017`).
"""

from __future__ import annotations

from typing import ClassVar

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import count
from limnet.datasets.pictures import Picture, PictureSet, case_name, picture_files

OBJECTS = 345


class Davis345Dataset(PictureSet):
    """DAVIS-345; label 1 is the object."""

    title = "DAVIS-345"
    licence = "terms of DAVIS (research)"
    access = "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (DAVIS)"
    layout = "img/00001.jpg\ngt/00001.png"
    splits = ("train", "val", "test")
    above: ClassVar[int] = 0

    def find(self) -> None:
        """Look for both folders in the root or in `DAVIS` below it."""
        self.images = self.first_folder("img", "DAVIS/img")
        self.masks = self.images.parent / "gt"
        if not self.masks.is_dir():
            raise self.missing(f"there is no gt in {self.images.parent}")

    def pictures(self) -> list[Picture]:
        """Pictures and masks of the same stem."""
        images, masks = picture_files(self.images), picture_files(self.masks)
        return [
            Picture(
                case_name(stem),
                stem,
                images.get(stem, self.images / f"{stem}.jpg"),
                (masks.get(stem, self.masks / f"{stem}.png"),),
            )
            for stem in sorted({*images, *masks})
        ]

    def check_files(self) -> list[Problem]:
        """The number of frames."""
        return count(len(self.pictures()), OBJECTS, "frames", self.access)

    def split_of(self, case: LabelledCase) -> str | None:
        """Always "test"."""
        return "test"


class Davis345DataModule(CaseDataModule):
    """Whole cases of DAVIS-345; there is nothing to train on."""

    dataset_class = Davis345Dataset
