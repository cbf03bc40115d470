"""A tiny DAVIS-585: frames, masks of three equal channels, two kinds of flawed masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import write_side_file
from tests.helpers.fake_pictures import disc, photo, write_picture

FILMS = ("bike-packing", "blackswan", "breakdance_x", "india")
OBJECTS = 12


def build(root: Path) -> Path:
    """Two frames a film; two objects in the first frame, one in the second."""
    for number, film in enumerate(FILMS):
        folder = root / "davis585" / film
        for frame in (60, 75):
            masks = [disc(20, 16 + number, 10), disc(20, 40, 9)][: 2 if frame == 60 else 1]
            write_side_file(write_picture(folder / f"{frame:05d}.jpg", photo(np.sum(masks, 0), number)))
            for k, mask in enumerate(masks, 1):
                for prefix, value in (
                    ("", mask),
                    ("init_stm_", mask & disc(16, 28, 20)),
                    ("init_sp_", mask | disc(20, 28, 3)),
                ):
                    pixels = np.repeat((value * 255).astype(np.uint8)[..., None], 3, -1)
                    write_picture(folder / f"{prefix}object{k}_{frame:05d}.png", pixels)
    return root
