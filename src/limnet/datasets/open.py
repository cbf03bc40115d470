"""The open volumes: small labelled CT, MR and microscopy volumes listed in a manifest.json.

Layout: `<root>/manifest.json` with one entry per file; `<root>/<train|val>/**.npz` with keys image, label, spacing in
(z, y, x) order, millimetres. `kind` tells volumes, crops, single slices and label maps without an image apart.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from limnet.datasets.clips import Source
from limnet.errors import MissingFileError

# How often a group of files is drawn; within a group every file has an equal share.
GROUP_WEIGHTS = {
    "ts_ct_abdomen": 14.0,
    "ts_ct_thorax": 5.0,
    "ts_mr_abdomen": 6.0,
    "ch2": 5.0,
    "inia19": 4.0,
    "openms": 8.0,
    "lidc": 9.0,
    "sct_": 2.0,
    "spinegeneric": 2.0,
    "dcmqi": 0.7,
    "synthseg": 12.0,
    "headneck": 6.0,
    "stroke": 3.0,
    "fib25": 2.0,
    "stardist": 1.5,
    "axon": 0.7,
}

# Nearer to what users segment: organs, lesions and bones on real images, few atlas regions without visible borders.
MEDICAL_WEIGHTS = {
    "ts_ct_abdomen": 26.0,
    "ts_ct_thorax": 9.0,
    "ts_mr_abdomen": 10.0,
    "ch2": 2.0,
    "inia19": 1.0,
    "openms": 9.0,
    "lidc": 12.0,
    "sct_": 3.0,
    "spinegeneric": 3.0,
    "dcmqi": 2.0,
    "synthseg": 8.0,
    "headneck": 5.0,
    "stroke": 1.0,
    "fib25": 1.0,
    "stardist": 1.0,
}
MIXES = {"broad": GROUP_WEIGHTS, "medical": MEDICAL_WEIGHTS}


def read_manifest(root: Path) -> list[dict]:
    """Entries of `<root>/manifest.json`.

    Raises:
        MissingFileError: there is no manifest at `root`.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        raise MissingFileError(
            f"no manifest.json in {root}; point to the folder that holds it together with train/ and val/"
        )
    return json.loads(path.read_text())["volumes"]


def load_sources(root: Path, split: str = "train", groups: dict[str, float] | None = None) -> list[Source]:
    """Read every volume of a split into memory (about 1 GB for train).

    Args:
        root: folder with manifest.json.
        split: "train" or "val".
        groups: name fragment -> weight of that group; files of no group are left out.

    Returns:
        Sources with ids of at least 40 voxels.
    """
    weights = GROUP_WEIGHTS if groups is None else groups
    entries = [e for e in read_manifest(root) if e["file"].startswith(split + "/")]
    found: dict[str, list[dict]] = {name: [] for name in weights}
    for entry in entries:
        for name in weights:
            if name in entry["file"]:
                found[name].append(entry)
                break
    sources = []
    for name, group in found.items():
        for entry in group:
            with np.load(Path(root) / entry["file"]) as data:
                labels = data["label"]
                image = data["image"] if "image" in data.files else None
                spacing = tuple(float(s) for s in data["spacing"])
            flat = labels.shape[0] < 8 or spacing[0] > 2.2 * max(spacing[1:])
            source = Source(
                labels=labels,
                spacing=spacing,  # type: ignore[arg-type]
                image=image,
                modality="ct"
                if str(entry.get("modality", "")).upper().startswith("CT") and image is not None
                else "other",
                weight=weights[name] / len(group),
                axes=(0,) if flat else (0, 0, 1, 2),
                name=entry["file"],
            ).with_ids()
            if source.ids:
                sources.append(source)
    return sources
