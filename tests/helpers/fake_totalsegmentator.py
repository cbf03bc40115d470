"""A tiny TotalSegmentator v2: 117 files a subject, most all zero; a `;`-separated meta.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from limnet.datasets.totalsegmentator import STRUCTURES
from tests.helpers.fake_nifti import ct, oriented_affine, write_nifti, write_side_file

SPLITS = {"s0000": "train", "s0011": "train", "s0058": "val", "s1429": "test"}
PRESENT = {"liver": 3, "spleen": 1, "vertebrae_L3": 5, "costal_cartilages": 7}  # structure -> first row of its bar


def build(root: Path, structures: Sequence[str] = STRUCTURES) -> Path:
    """Write the subjects straight into `root`; returns it."""
    for number, subject in enumerate(SPLITS):
        shape = (12, 10, 6 + number)
        affine = oriented_affine("RAS" if number else "LPS", (1.5, 1.5, 1.5))
        write_side_file(write_nifti(root / subject / "ct.nii.gz", ct(shape, number), affine))
        empty = write_nifti(root / subject / "segmentations" / "spleen.nii.gz", np.zeros(shape, np.uint8), affine)
        absent = empty.read_bytes()
        for name in structures:
            path = empty.with_name(f"{name}.nii.gz")
            if name in PRESENT:
                mask = np.zeros(shape, np.uint8)
                mask[2:10, PRESENT[name] : PRESENT[name] + 2, 1:5] = 1
                write_nifti(path, mask, affine)
            else:
                path.write_bytes(absent)
    lines = ["image_id;age;gender;institute;study_type;split;manufacturer"]
    lines += [f"{subject};67;m;A;ct abdomen;{split};x" for subject, split in SPLITS.items()]
    (root / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
