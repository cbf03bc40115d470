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
from pathlib import Path
from typing import ClassVar

from limnet.data.dataset import LabelledCase, Problem
from limnet.data.module import CaseDataModule
from limnet.datasets.expected import absent
from limnet.datasets.nifti_pairs import NiftiPair, NiftiPairs, nifti_files
from limnet.errors import InputError

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


class BtcvDataset(NiftiPairs):
    """BTCV abdomen. Case names are "btcv_0001", one patient each.

    Args:
        root: see the layout.
        fraction: not used, splits are published.
        seed: not used.
        protocol: "transunet" or "unetr".

    Raises:
        InputError: another protocol.
        MissingFileError: the folder does not look like BTCV.
    """

    title = "BTCV abdomen"
    licence = "terms of the challenge: research, no redistribution"
    access = (
        "register at Synapse, accept the terms of https://www.synapse.org/Synapse:syn3193805 and unpack RawData.zip"
    )
    layout = (
        "RawData/Training/img/img0001.nii.gz\nRawData/Training/label/label0001.nii.gz\n"
        "(0001..0010, 0021..0040; or imagesTr/img0001.nii.gz with labelsTr/label0001.nii.gz)"
    )
    splits = ("train", "val")
    labels: ClassVar[dict[int, str]] = {
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        5: "esophagus",
        6: "liver",
        7: "stomach",
        8: "aorta",
        9: "inferior vena cava",
        10: "portal and splenic vein",
        11: "pancreas",
        12: "right adrenal gland",
        13: "left adrenal gland",
    }
    windows: ClassVar[dict[str, tuple[float, float]]] = {"ct": (-125.0, 275.0)}

    def __init__(self, root: Path | str, fraction: float = 0.2, seed: int = 0, protocol: str = "transunet") -> None:
        if protocol not in HELD_OUT:
            raise InputError(f"protocol {protocol!r} is unknown; allowed are {', '.join(HELD_OUT)}")
        self.protocol = protocol
        super().__init__(root, fraction, seed)

    def find(self) -> None:
        """Look for one of the two forms."""
        for images, labels in _PLACES:
            if (self.root / images).is_dir() and (self.root / labels).is_dir():
                self.images, self.label_folder = self.root / images, self.root / labels
                return
        raise self.missing(f"there is no folder of images beside one of labels in {self.root}")

    def pairs(self) -> list[NiftiPair]:
        """Pairs by number."""
        images, labels = _numbered(self.images, "img"), _numbered(self.label_folder, "label")
        if self.images.name == "imagesTr":
            images = {n: path for n, path in images.items() if n in labels or n in NUMBERS}
        found = []
        for number in sorted({*images, *labels}):
            image = images.get(number, self.images / f"img{number:04d}.nii.gz")
            label = labels.get(number, self.label_folder / f"label{number:04d}.nii.gz")
            found.append(NiftiPair(f"btcv_{number:04d}", f"{number:04d}", "ct", image, label))
        return found

    def split_of(self, case: LabelledCase) -> str | None:
        """By the protocol's list; cases outside the 30 published ones belong to no split."""
        number = int(case.patient)
        if number not in NUMBERS:
            return None
        return "val" if number in HELD_OUT[self.protocol] else "train"

    def check_files(self) -> list[Problem]:
        """The 30 published numbers."""
        wanted = {f"btcv_{number:04d}" for number in NUMBERS}
        return absent(wanted, {pair.name for pair in self.pairs()}, "the 30 labelled cases", self.access, used=False)


def _numbered(folder: Path, stem: str) -> dict[int, Path]:
    matches = ((re.fullmatch(rf"{stem}(\d{{4}})", name), path) for name, path in nifti_files(folder).items())
    return {int(match[1]): path for match, path in matches if match}


class BtcvDataModule(CaseDataModule):
    """Training clips and whole cases of BTCV."""

    dataset_class = BtcvDataset
