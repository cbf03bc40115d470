"""A fake of every data set in the table, in its true layout, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers import fake_open
from tests.helpers.fake_folders import write_decathlon, write_folder, write_nnunet
from tests.helpers.medical_sets import MEDICAL_SETS
from tests.helpers.picture_sets import FILM_SETS, PICTURE_SETS, TEST_PICTURE_SETS

EVERY_SET: dict[str, Callable[[Path], Path]] = {
    **MEDICAL_SETS,
    **PICTURE_SETS,
    "decathlon": write_decathlon,
    "folder": write_folder,
    "nnunet": write_nnunet,
    "open": fake_open.build,
}
TRAINED_SETS = sorted(set(EVERY_SET) - set(TEST_PICTURE_SETS))
"""Those with cases to train on."""
CLIP_SETS = sorted({*MEDICAL_SETS, *FILM_SETS, "decathlon", "folder", "nnunet", "open"})
"""Those with neighbouring slices to train propagation on."""
