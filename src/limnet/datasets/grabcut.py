"""GrabCut: 50 pictures with one object each, a benchmark of interactive segmentation in 2-D.

Layout as used by RITM::

    data_GT/*.jpg, *.JPG, *.bmp              pictures
    boundary_GT/*.bmp                        same stems: above 128 object, 128 a band that is not scored, 0 background

Nothing is trained on it: every case is "test". The unscored band is background in the labels; `void` gives it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset, brightness
from limnet.errors import InputError
from limnet.image.io.pictures import PICTURES

BAND = 128
OBJECTS = 50


class GrabCutDataset(PictureDataset):
    """GrabCut; label 1 is the object."""

    title = "GrabCut"
    licence = "research use, terms of its owner"
    access = "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (GrabCut)"
    layout = "data_GT/flower.jpg (or bmp)\nboundary_GT/flower.bmp"
    splits = ("train", "val", "test")
    images, masks, mask_kinds = ("data_GT", "GrabCut/data_GT"), "boundary_GT", (".bmp", *PICTURES)
    split = "test"
    published, unit = OBJECTS, "pictures"

    def void(self, name: str) -> NDArray[np.bool_]:
        """Pixels of a case that are not scored, (1, H, W).

        Raises:
            InputError: no case of that name.
        """
        found = next((files for files in self.files if files.name == name), None)
        if found is None:
            raise InputError(f"there is no case {name!r} in {self.root}; names are those of the pictures")
        return (brightness(found.masks[0]) == BAND)[None]


GrabCutDataModule = data_module(GrabCutDataset)
