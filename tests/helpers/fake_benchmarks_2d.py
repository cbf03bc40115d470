"""Tiny GrabCut, Berkeley, DAVIS-345 and SBD in the layouts RITM reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import SHAPE, disc, photo, write_picture

OBJECTS = 3
"""Of each of GrabCut, Berkeley and DAVIS-345 here."""
SBD_NAMES = {"train": ("2008_000002", "2008_000003"), "val": ("2008_000008",)}


def build_grabcut(root: Path) -> Path:
    """Pictures of several suffixes; masks with a band of 128 around the object."""
    for number, name in enumerate(("flower.jpg", "banana.JPG", "scissors.bmp")):
        inside, wide = disc(20, 28, 9 + number), disc(20, 28, 12 + number)
        write_side_file(write_picture(root / "data_GT" / name, photo(inside, number)))
        mask = np.where(inside, 255, np.where(wide, 128, 0)).astype(np.uint8)
        write_picture(root / "boundary_GT" / f"{Path(name).stem}.bmp", mask)
    return root


def build_berkeley(root: Path) -> Path:
    """One picture with one mask, one with two."""
    for stem, masks in (("113044", ("113044",)), ("124084", ("124084#1", "124084#2"))):
        write_picture(root / "images" / f"{stem}.jpg", photo(disc(20, 28, 10)))
        for number, mask in enumerate(masks):
            write_picture(root / "masks" / f"{mask}.png", (disc(20, 16 + 24 * number, 9) * 255).astype(np.uint8))
    return root


def build_davis345(root: Path) -> Path:
    """Masks in colour: any channel above 0."""
    for number in range(3):
        inside = disc(20, 28, 10 + number)
        write_picture(root / "img" / f"{number:05d}.jpg", photo(inside, number))
        mask = np.zeros((*SHAPE, 3), np.uint8)
        mask[inside] = (0, 0, 128) if number else (128, 0, 0)
        write_picture(root / "gt" / f"{number:05d}.png", mask)
    return root


def build_sbd(root: Path) -> Path:
    """Instances 1 and 2 of a person and a dog, as MATLAB structs."""
    base = root / "benchmark_RELEASE" / "dataset"
    for split, names in SBD_NAMES.items():
        for number, name in enumerate(names):
            labels = np.zeros(SHAPE, np.uint8)
            labels[disc(20, 16 + number, 9)] = 1
            labels[disc(20, 40, 9)] = 2
            write_side_file(write_picture(base / "img" / f"{name}.jpg", photo(labels, number)))
            (base / "inst").mkdir(exist_ok=True)
            boundaries = np.empty((2, 1), object)
            boundaries[:, 0] = [np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)]
            struct = {"Segmentation": labels, "Boundaries": boundaries, "Categories": np.array([[15], [12]], np.uint8)}
            savemat(base / "inst" / f"{name}.mat", {"GTinst": struct}, do_compression=True)
        (base / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root
