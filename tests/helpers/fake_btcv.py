"""A tiny BTCV: all 30 numbers, another name for labels than for images, test images, an absent organ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import blocks, ct, oriented_affine, write_nifti, write_side_file

NUMBERS = (*range(1, 11), *range(21, 41))


def build(root: Path, decathlon_like: bool = False) -> Path:
    """Write `root`/RawData, or imagesTr and labelsTr in `root`; returns `root`."""
    images, labels = ("imagesTr", "labelsTr") if decathlon_like else ("RawData/Training/img", "RawData/Training/label")
    for number in NUMBERS:
        shape = (30, 10, 4 + number % 3)
        affine = oriented_affine("LAS" if number % 2 else "RAS", (0.8, 0.8, 3.0))
        ids = tuple(i for i in range(1, 14) if not (number == 3 and i == 2))  # no right kidney
        write_nifti(root / images / f"img{number:04d}.nii.gz", ct(shape, number), affine)
        dtype = np.float32 if number == 5 else np.uint8
        write_nifti(root / labels / f"label{number:04d}.nii.gz", blocks(shape, ids, dtype), affine)
    write_side_file(root / images / "img0001.nii.gz")
    if not decathlon_like:
        write_nifti(root / "RawData/Testing/img/img0061.nii.gz", ct((10, 10, 4)))
        write_side_file(root / "RawData/Training/label/label0001.nii.gz")
    return root
