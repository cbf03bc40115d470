"""BTCV: 13 abdominal structures on 30 labelled CTs of the multi-atlas challenge (also called Synapse).

Layout as unpacked from RawData.zip (the root may be any folder of this chain)::

    RawData/Training/img/img0001.nii.gz           0001..0010 and 0021..0040
    RawData/Training/label/label0001.nii.gz
    RawData/Testing/img/img0061.nii.gz            0061..0080, no labels

or the form in which it is often passed on: imagesTr/img0001.nii.gz with labelsTr/label0001.nii.gz. Image and label
names differ and are paired by number. Ids are NOT those of AMOS (10, 11 and 12 differ). A patient without a right
kidney or a gallbladder lacks that label.

Splits by number, chosen with `protocol`: "transunet" 18 / 12, as most papers since TransUNet, or "unetr" 24 / 6, as
UNETR and MONAI. The held-out cases are "val".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from limnet.data.dataset import CaseFiles, Problem, numbered
from limnet.data.files import NIFTI, by_stem
from limnet.data.module import data_module
from limnet.data.nifti import NiftiDataset

NUMBERS = (*range(1, 11), *range(21, 41))
HELD_OUT = {
    "transunet": frozenset((1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)),
    "unetr": frozenset(range(35, 41)),
}
_PLACES = (
    ("RawData/Training/img", "RawData/Training/label"),
    ("Training/img", "Training/label"),
    ("img", "label"),
    ("imagesTr", "labelsTr"),
)


@dataclass(eq=False, repr=False)
class BtcvDataset(NiftiDataset):
    """BTCV abdomen, by a `protocol` of `HELD_OUT`. Case names are "btcv_0001", one patient each."""

    title = "BTCV abdomen"
    licence = "terms of the challenge: research, no redistribution"
    access = (
        "register at Synapse, accept the terms of https://www.synapse.org/Synapse:syn3193805 and unpack RawData.zip"
    )
    labels: ClassVar = numbered(
        "spleen, right kidney, left kidney, gallbladder, esophagus, liver, stomach, aorta, "
        "inferior vena cava, portal and splenic vein, pancreas, right adrenal gland, left adrenal gland"
    )
    windows: ClassVar = {"ct": (-125.0, 275.0)}
    choices: ClassVar = {"protocol": tuple(HELD_OUT)}
    protocol: Literal["transunet", "unetr"] = "transunet"

    def list_files(self) -> Iterable[CaseFiles]:
        """Pairs by number, in one of the two forms."""
        places = ((self.root / images, self.root / labels) for images, labels in _PLACES)
        folders = next((place for place in places if all(folder.is_dir() for folder in place)), None)
        if folders is None:
            raise self.missing(f"there is no folder of images beside one of labels in {self.root}")
        images, labels = (
            {int(m[1]): path for stem, path in by_stem(folder, *NIFTI).items() if (m := re.fullmatch(pattern, stem))}
            for folder, pattern in zip(folders, (r"img(\d{4})", r"label(\d{4})"), strict=True)
        )
        for number in sorted({*images, *labels}):
            if folders[0].name == "imagesTr" and number not in {*labels, *NUMBERS}:
                continue
            image = images.get(number, folders[0] / f"img{number:04d}.nii.gz")
            label = labels.get(number, folders[1] / f"label{number:04d}.nii.gz")
            split = "val" if number in HELD_OUT[self.protocol] else "train" if number in NUMBERS else None
            yield CaseFiles(f"btcv_{number:04d}", f"{number:04d}", image, (label,), "ct", split)

    def check_files(self) -> list[Problem]:
        """The 30 published numbers."""
        wanted = {f"btcv_{number:04d}" for number in NUMBERS}
        return self.compare(wanted, (files.name for files in self.files), "the 30 labelled cases", used=False)


BtcvDataModule = data_module(BtcvDataset)
