"""Tiny tasks of the decathlon: sparse numbers, side files, test entries as plain texts, a misspelt key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.helpers.fake_nifti import ct, oriented_affine, write_nifti, write_side_file

TASKS = {
    "Task06_Lung": ({"0": "background", "1": "cancer"}, (1, 3, 4, 5, 6, 9, 10, 14, 15)),
    "Task07_Pancreas": ({"0": "background", "1": "pancreas", "2": "cancer"}, tuple(range(1, 21))),
    "Task10_Colon": ({"0": "background", "1": "colon cancer primaries"}, (1, 5, 11, 22, 26, 212, 218)),
}


def build(root: Path, task: str, numbers: Sequence[int] | None = None) -> Path:
    """Write `root`/`task` and return it."""
    names, usual = TASKS[task]
    prefix = task.split("_")[1].lower()
    base, training = root / task, []
    for number in usual if numbers is None else numbers:
        name = f"{prefix}_{number:03d}.nii.gz"
        shape = (14, 12, 5 + number % 3)
        affine = oriented_affine("RAS" if number % 2 else "LAS", (0.8, 0.8, 5.0))
        labels = np.zeros(shape, np.float32 if number % 5 == 0 else np.uint8)
        labels[3:8, 3:8, 2:4] = 1
        if "2" in names:
            labels[4:6, 4:6, 2] = 2
        write_side_file(write_nifti(base / "imagesTr" / name, ct(shape, number), affine))
        write_side_file(write_nifti(base / "labelsTr" / name, labels, affine))
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    write_nifti(base / "imagesTs" / f"{prefix}_002.nii.gz", ct((14, 12, 5)))
    content = {
        "name": prefix,
        "description": "",
        "reference": "",
        "licence": "CC-BY-SA 4.0",
        "relase": "1.0",  # misspelt in some tasks
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": names,
        "numTraining": len(training),
        "numTest": 1,
        "training": training,
        "test": [f"./imagesTs/{prefix}_002.nii.gz"],
    }
    (base / "dataset.json").write_text(json.dumps(content))
    return base
