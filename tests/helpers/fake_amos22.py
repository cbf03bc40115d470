"""A tiny AMOS22 with its oddities: sparse ids, orientations that vary, CT padding, macOS side files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import blocks, ct, oriented_affine, write_nifti, write_side_file

NAMES = {1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gall bladder", 5: "esophagus", 6: "liver", 7: "stomach"}
NAMES |= {8: "arota", 9: "postcava", 10: "pancreas", 11: "right adrenal gland", 12: "left adrenal gland"}
NAMES |= {13: "duodenum", 14: "bladder", 15: "prostate/uterus"}

# number -> (axis codes, index shape, steps, labels, dtype); the axis that runs head to feet has 6 slices
TRAINING = {
    1: ("LAS", (17, 14, 6), (1.0, 1.0, 5.0), tuple(range(1, 16)), np.uint8),
    4: ("RAS", (12, 14, 6), (1.0, 1.0, 5.0), (1, 2, 6), np.float64),  # labels stored as floats
    7: ("PIR", (14, 6, 12), (1.0, 5.0, 1.0), (3, 6), np.uint16),  # sagittal array order
    507: ("LPS", (16, 14, 6), (1.5, 1.5, 5.0), (1, 6), np.uint8),  # MR
    555: ("PSR", (16, 14, 6), (1.5, 1.5, 6.0), (1, 6), np.uint8),  # MR acquired in sagittal slices
}
VALIDATION = {
    8: ("LAS", (12, 14, 6), (1.0, 1.0, 5.0), (6,), np.uint8),
    600: ("LPS", (16, 14, 6), (1.5, 1.5, 5.0), (6,), np.uint8),
}
TEST = {9: ("LAS", (12, 14, 6), (1.0, 1.0, 5.0), (), np.uint8)}


def build(root: Path) -> Path:
    """Write `root`/amos22 and return it."""
    base = root / "amos22"
    lists: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    for key, end, cases in (("training", "Tr", TRAINING), ("validation", "Va", VALIDATION), ("test", "Ts", TEST)):
        for number, (codes, shape, steps, ids, dtype) in cases.items():
            name = f"amos_{number:04d}.nii.gz"
            image = ct(shape, number).astype(np.float32)
            image[0] = -3024  # padding
            affine = oriented_affine(codes, steps)
            affine[:3, 3] = (-7.5, 3.0, 40.0 + number)
            entry = {"image": f"./images{end}/{name}"}
            write_side_file(write_nifti(base / f"images{end}" / name, image, affine))
            if ids:
                entry["label"] = f"./labels{end}/{name}"
                affine = affine + 1e-5 * (np.arange(16).reshape(4, 4) < 12)  # rounding, as between writers
                write_nifti(base / f"labels{end}" / name, blocks(shape, ids, dtype), affine)
            lists[key].append(entry)
    content = {"name": "AMOS", "labels": {"0": "background", **{str(i): n for i, n in NAMES.items()}}, **lists}
    (base / "dataset.json").write_text(json.dumps(content))
    shadow = root / "__MACOSX" / "amos22" / "imagesTr"
    shadow.mkdir(parents=True)
    (shadow / "._amos_0001.nii.gz").write_bytes(b"\x00\x05\x16\x07")
    return base
