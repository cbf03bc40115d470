"""Tiny files of the CVPR 2025 interactive challenge: instance ids, boxes as pickled objects, labels in other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TRAINING = {
    "CT/CT_AbdomenAtlas/CT_AbdomenAtlas_0001.npz": 3,
    "MRI/MR_BraTS-T1c/MR_BraTS-T1c_bench 7.npz": 1,
    "Microscopy/Microscopy_NucMM/Microscopy_NucMM_2.npz": 2,
}
VALIDATION = {"CT_AMOS_amos_0018.npz": 2, "US_Cardiac_patient0003.npz": 1, "PET_Lesion_5.npz": 1}
WITHOUT_BOXES = "PET_Lesion_5.npz"


def arrays(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image uint8, labels 1..number, spacing."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (5, 12, 14)).astype(np.uint8)
    labels = np.zeros(image.shape, np.uint16)
    for i in range(number):
        labels[1:4, 2:10, 2 + 4 * i : 5 + 4 * i] = i + 1
    return image, labels, np.array([3.0, 0.7, 0.9])


def boxes_of(labels: np.ndarray) -> list[dict[str, int]]:
    """One box for each id, as the challenge writes them."""
    boxes = []
    for i in range(1, int(labels.max()) + 1):
        z, y, x = np.nonzero(labels == i)
        middle = int(np.median(np.unique(z)))
        here = z == middle
        sides = {"x_min": x[here].min(), "y_min": y[here].min(), "x_max": x[here].max(), "y_max": y[here].max()}
        box = {"z_min": int(z.min()), "z_max": int(z.max()), "z_mid": middle}
        boxes.append(box | {f"z_mid_{key}": int(value) for key, value in sides.items()})
    return boxes


def build(root: Path) -> Path:
    """Write `root`/3D_train_npz_all, 3D_val_npz and 3D_val_gt; returns `root`."""
    for seed, (name, number) in enumerate(TRAINING.items()):
        path = root / "3D_train_npz_all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image, labels, spacing = arrays(number, seed)
        np.savez_compressed(path, imgs=image, gts=labels, spacing=spacing)
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    for seed, (name, number) in enumerate(VALIDATION.items()):
        image, labels, spacing = arrays(number, 10 + seed)
        given = {"imgs": image, "spacing": spacing}
        if name != WITHOUT_BOXES:
            given["boxes"] = np.array(boxes_of(labels), dtype=object)
        for folder, content in (("3D_val_npz", given), ("3D_val_gt/3D_val_gt_interactive", {"gts": labels})):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, **content)
    return root
