"""The open volumes in small, with manifest.json, as limnet trains on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def build(root: Path) -> Path:
    """Two CTs, a slice, a label map without an image, and a validation volume, listed as in the true layout."""
    rng = np.random.default_rng(0)
    entries = []

    def add(
        file: str, shape: tuple[int, int, int], spacing: tuple[float, ...], modality: str, image: bool = True
    ) -> None:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        label = np.zeros(shape, np.uint8)
        label[:, 2:14, 3:15] = 1
        label[:, 20:24, 20:26] = 4
        label[0, 0, 0] = 9
        arrays = {"label": label, "spacing": np.asarray(spacing, np.float32)}
        if image:
            arrays["image"] = rng.integers(-500, 500, shape).astype(np.int16)
        np.savez_compressed(path, **arrays)
        entries.append({"file": file, "kind": "volume" if image else "labelmap", "modality": modality, "shape": shape})

    add("train/ts_ct_abdomen_1.npz", (10, 32, 32), (1.5, 1.5, 1.5), "CT")
    add("train/ts_ct_abdomen_2.npz", (10, 32, 32), (5.0, 1.0, 1.0), "CT")
    add("train/deep/openms_1.npz", (9, 32, 32), (1.0, 1.0, 1.0), "MR FLAIR")
    add("train/dcmqi_1.npz", (1, 32, 32), (1.0, 1.0, 1.0), "CT")
    add("train/synthseg_1.npz", (9, 32, 32), (1.0, 1.0, 1.0), "none", image=False)
    add("train/unknown_thing.npz", (9, 32, 32), (1.0, 1.0, 1.0), "CT")
    add("val/ts_ct_abdomen_9.npz", (10, 32, 32), (1.5, 1.5, 1.5), "CT")
    (root / "manifest.json").write_text(json.dumps({"format": "npz", "volumes": entries}))
    return root
