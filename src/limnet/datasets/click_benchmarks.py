"""GrabCut, Berkeley and DAVIS-345: benchmarks of interactive segmentation in 2-D, in the layouts RITM uses.

GrabCut, 50 pictures with one object each::

    data_GT/*.jpg, *.JPG, *.bmp              pictures
    boundary_GT/*.bmp                        same stems: above 128 object, 128 a band that is not scored, 0 background

Berkeley, 100 objects in 96 pictures::

    images/*.jpg
    masks/*.png            the picture's stem, or <stem>#<k> for the k-th object of a picture; object above 128

DAVIS-345 (there called DAVIS), 345 frames of the DAVIS films with one mask each::

    img/*.jpg
    gt/*.png               same stems; a pixel of which any channel is above 0 belongs to the object

Nothing is trained on them: every case is "test". GrabCut's unscored band is background in the labels; `void` gives it.
Do not confuse DAVIS-345 with DAVIS-585 (`davis585`), which has initial masks, or with the films (`davis2017`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset, brightness
from limnet.errors import InputError
from limnet.image.io.pictures import PICTURES

BAND = 128


class ClickBenchmark(PictureDataset):
    """Pictures with a mask for each object, all of them "test"; label 1 is the object."""

    splits = ("train", "val", "test")
    split = "test"


class GrabCutDataset(ClickBenchmark):
    """GrabCut; label 1 is the object."""

    title = "GrabCut"
    licence = "research use, terms of its owner"
    access = "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (GrabCut)"
    layout = "data_GT/flower.jpg (or bmp)\nboundary_GT/flower.bmp"
    images, masks, mask_kinds = ("data_GT", "GrabCut/data_GT"), "boundary_GT", (".bmp", *PICTURES)
    published, unit = 50, "pictures"

    def void(self, name: str) -> NDArray[np.bool_]:
        """Pixels of a case that are not scored, (1, H, W); InputError for no case of that name."""
        found = next((files for files in self.files if files.name == name), None)
        if found is None:
            raise InputError(f"there is no case {name!r} in {self.root}; names are those of the pictures")
        return (brightness(found.masks[0]) == BAND)[None]


class BerkeleyDataset(ClickBenchmark):
    """Berkeley; one case for each mask, label 1 is the object."""

    title = "Berkeley"
    licence = "research use, terms of the Berkeley segmentation data set"
    access = (
        "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (Berkeley)"
    )
    layout = "images/113044.jpg\nmasks/113044.png (or 113044#1.png, 113044#2.png)"
    images, masks, ending = ("images", "Berkeley/images"), "masks", r"#\d+"
    published, unit = 100, "objects"


class Davis345Dataset(ClickBenchmark):
    """DAVIS-345; label 1 is the object."""

    title = "DAVIS-345"
    licence = "terms of DAVIS (research)"
    access = "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (DAVIS)"
    layout = "img/00001.jpg\ngt/00001.png"
    images, masks, above = ("img", "DAVIS/img"), "gt", 0
    published, unit = 345, "frames"


GrabCutDataModule = data_module(GrabCutDataset)
BerkeleyDataModule = data_module(BerkeleyDataset)
Davis345DataModule = data_module(Davis345Dataset)
