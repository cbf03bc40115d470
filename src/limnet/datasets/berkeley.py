"""Berkeley: 100 objects in 96 pictures, a benchmark of interactive segmentation in 2-D.

Layout as used by RITM::

    images/*.jpg
    masks/*.png            the picture's stem, or <stem>#<k> for the k-th object of a picture; object above 128

Nothing is trained on it: every case is "test".
"""

from __future__ import annotations

from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset

OBJECTS = 100


class BerkeleyDataset(PictureDataset):
    """Berkeley; one case for each mask, label 1 is the object."""

    title = "Berkeley"
    licence = "research use, terms of the Berkeley segmentation data set"
    access = (
        "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (Berkeley)"
    )
    layout = "images/113044.jpg\nmasks/113044.png (or 113044#1.png, 113044#2.png)"
    splits = ("train", "val", "test")
    images, masks, ending = ("images", "Berkeley/images"), "masks", r"#\d+"
    split = "test"
    published, unit = OBJECTS, "objects"


BerkeleyDataModule = data_module(BerkeleyDataset)
