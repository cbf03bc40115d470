"""Tiny static sets: XMem's re-packed folder, and the sets as their owners ship them; masks soft at the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import SHAPE, disc, photo, write_picture


def soft(number: int, size: tuple[int, int] = SHAPE) -> NDArray[np.uint8]:
    """A blurred mask, 0..255."""
    return (ndimage.gaussian_filter(disc(20, 26 + number, 11, size).astype(float), 1) * 255).astype(np.uint8)


def pair(image: Path, mask: Path, number: int = 0) -> None:
    """A picture and its mask."""
    write_side_file(write_picture(image, photo(soft(number) > 127, number)))
    write_picture(mask, soft(number))


def build(root: Path) -> Path:
    """`root`/static as XMem has it; one FSS picture with its suffix in capitals."""
    static = root / "static"
    for kind in ("ab_wheel", "zebra"):
        for number in (1, 2):
            suffix = "JPG" if (kind, number) == ("zebra", 2) else "jpg"
            pair(static / "fss" / kind / f"{number}.{suffix}", static / "fss" / kind / f"{number}.png", number)
    for part in ("ecssd", "DUTS-TR", "DUTS-TE", "BIG_small", "HRSOD_small"):
        for number in range(2):
            pair(static / part / f"im_{number}.jpg", static / part / f"im_{number}.png", number)
    return root


def build_originals(root: Path) -> Path:
    """The sets side by side as their owners ship them."""
    pair(root / "FSS-1000" / "zebra" / "1.jpg", root / "FSS-1000" / "zebra" / "1.png")
    for part in ("DUTS-TR", "DUTS-TE"):
        pair(root / part / f"{part}-Image" / "a.jpg", root / part / f"{part}-Mask" / "a.png")
    pair(root / "ECSSD" / "images" / "0001.jpg", root / "ECSSD" / "ground_truth_mask" / "0001.png")
    pair(root / "BIG" / "val" / "2007_im.jpg", root / "BIG" / "val" / "2007_gt.png")
    pair(root / "HRSOD" / "HRSOD_train" / "x.jpg", root / "HRSOD" / "HRSOD_train_mask" / "x.png")
    return root
