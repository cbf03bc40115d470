"""A tiny KiTS19: slices on the first stored axis, codes IPL, masks of two dtypes, images without labels from 210 on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import ct, oriented_affine, write_nifti, write_side_file

CASES = (0, 1, 2, 7, 160, 208, 210)


def build(root: Path, cases: Sequence[int] = CASES) -> Path:
    """Write `root`/data; returns `root`. Slice z of every volume is z hundred, so that the slice axis can be seen."""
    data = root / "data"
    for number in cases:
        depth, rows, columns = (5, 12, 18) if number == 160 else (6 + number % 3, 12, 12)
        affine = oriented_affine("IPL", (5.0, 0.8, 0.8))
        folder = data / f"case_{number:05d}"
        image = ct((depth, rows, columns), number).astype(np.float32) % 50 + 100 * np.arange(depth)[:, None, None]
        write_side_file(write_nifti(folder / "imaging.nii.gz", image.astype(np.float32), affine))
        if number < 210:
            labels = np.zeros((depth, rows, columns), np.uint16 if number % 2 else np.uint8)
            labels[1:4, 2:9, 3:9] = 1
            labels[2:4, 4:7, 4:7] = 2
            write_nifti(folder / "segmentation.nii.gz", labels, affine)
    entries = [{"case_id": f"case_{n:05d}", "voxel_spacing": {"x": 0.8, "y": 0.8, "z": 5.0}} for n in cases]
    (data / "kits.json").write_text(json.dumps(entries))
    return root
