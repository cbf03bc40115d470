"""Tiny in-house slices: CT of 16 bits, ultrasound in colour, one mask file an object, values 128 at the edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import SHAPE, disc, photo, write_picture


def build(root: Path) -> Path:
    """`root`/ct and `root`/us, three patients with two slices each; two objects on the second slice."""
    for modality in ("ct", "us"):
        for patient in range(3):
            for number in (1, 2):
                stem = f"p{patient:02d}_slice{number:02d}"
                masks = [disc(20, 16 + patient, 9), disc(20, 40, 9)][:number]
                inside = np.sum(masks, 0)
                if modality == "ct":
                    image = (1000 + 200 * inside + np.indices(SHAPE)[0]).astype(np.uint16)
                else:
                    image = photo(inside, patient)
                write_side_file(write_picture(root / modality / "images" / f"{stem}.png", image))
                for k, mask in enumerate(masks, 1):
                    edge = disc(20, 16 + patient if k == 1 else 40, 10)
                    pixels = np.where(mask, 255, np.where(edge, 128, 0)).astype(np.uint8)
                    ending = "" if number == 1 else f"_{k}"
                    write_picture(root / modality / "masks" / f"{stem}{ending}.png", pixels)
    return root
