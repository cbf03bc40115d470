"""The open volumes in small: a folder with manifest.json as the analysis scripts read it, and a very small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import small_segmenter

SHAPE = (8, 32, 40)


def open_root(root: Path) -> Path:
    """Two validation volumes of two groups, with one and two objects."""
    image = phantom(SHAPE)
    entries = []
    for file, labels in (("val/ts_ct_one.npz", (1,)), ("val/openms_two.npz", (1, 2))):
        label = (image > 100).astype(np.uint8)
        label[image > 230] = labels[-1]
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / file, image=image, label=label, spacing=np.array([2.0, 1.0, 1.0], np.float32))
        names = {"1": "ball", "2": "core"}
        entries.append({"file": file, "kind": "volume", "labels": {str(i): names[str(i)] for i in labels}})
    (root / "manifest.json").write_text(json.dumps({"volumes": entries}))
    return root


def small_model(folder: Path) -> Path:
    """A model folder of very small networks with fixed random weights."""
    return small_segmenter().save_pretrained(folder)
