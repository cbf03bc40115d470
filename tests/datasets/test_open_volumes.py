from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.clips import draw_clip
from limnet.datasets.open import GROUP_WEIGHTS, load_sources, read_manifest
from limnet.errors import MissingFileError


def write(root: Path) -> Path:
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


def test_sources_of_a_split(tmp_path: Path) -> None:
    sources = {s.name: s for s in load_sources(write(tmp_path))}
    assert sorted(sources) == [
        "train/dcmqi_1.npz",
        "train/deep/openms_1.npz",
        "train/synthseg_1.npz",
        "train/ts_ct_abdomen_1.npz",
        "train/ts_ct_abdomen_2.npz",
    ]
    first = sources["train/ts_ct_abdomen_1.npz"]
    assert first.spacing == (1.5, 1.5, 1.5)
    assert first.modality == "ct"
    assert first.ids == (1, 4)
    assert first.image is not None
    assert first.weight == GROUP_WEIGHTS["ts_ct_abdomen"] / 2  # a group's weight is shared by its files
    assert first.axes == (0, 0, 1, 2)
    assert sources["train/ts_ct_abdomen_2.npz"].axes == (0,)  # thick slices
    assert sources["train/dcmqi_1.npz"].axes == (0,)
    assert sources["train/dcmqi_1.npz"].ids == (1,)  # 24 pixels are too few
    assert sources["train/deep/openms_1.npz"].modality == "other"
    labelmap = sources["train/synthseg_1.npz"]
    assert labelmap.image is None
    assert labelmap.modality == "other"
    assert all(draw_clip(np.random.default_rng(1), s, 1, 32) is not None for s in (first, labelmap))


def test_splits_and_groups(tmp_path: Path) -> None:
    write(tmp_path)
    assert [s.name for s in load_sources(tmp_path, "val")] == ["val/ts_ct_abdomen_9.npz"]
    chosen = load_sources(tmp_path, groups={"unknown": 3.0})
    assert [(s.name, s.weight) for s in chosen] == [("train/unknown_thing.npz", 3.0)]
    assert load_sources(tmp_path, groups={}) == []


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"manifest\.json"):
        load_sources(tmp_path)
    write(tmp_path)
    assert len(read_manifest(tmp_path)) == 7
