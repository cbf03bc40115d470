"""DAVIS-345: 345 frames of the DAVIS films with one mask each, a benchmark of interactive segmentation in 2-D.

Layout as used by RITM (there called DAVIS)::

    img/*.jpg
    gt/*.png               same stems; a pixel of which any channel is above 0 belongs to the object

Nothing is trained on it: every case is "test". Do not confuse it with DAVIS-585 (`davis585`), which has initial masks,
or with the films themselves (`davis2017`).
"""

from __future__ import annotations

from limnet.data.module import data_module
from limnet.data.pictures import PictureDataset

OBJECTS = 345


class Davis345Dataset(PictureDataset):
    """DAVIS-345; label 1 is the object."""

    title = "DAVIS-345"
    licence = "terms of DAVIS (research)"
    access = "free download, in RITM's form from https://github.com/SamsungLabs/ritm_interactive_segmentation (DAVIS)"
    layout = "img/00001.jpg\ngt/00001.png"
    splits = ("train", "val", "test")
    images, masks, above = ("img", "DAVIS/img"), "gt", 0
    split = "test"
    published, unit = OBJECTS, "frames"


Davis345DataModule = data_module(Davis345Dataset)
