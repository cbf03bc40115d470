"""A made-up volume with five bodies, for machines that cannot fetch the demo's CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.demo.files import DemoFiles

SPACING = (3.0, 1.6, 1.6)
STRUCTURES = {"large body": 1, "round body": 2, "bent body": 3, "tube": 4, "block": 5}


def synthetic_arrays(seed: int = 0, shape: tuple[int, int, int] = (56, 128, 128)) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return image (D, H, W) int16 in HU-like units and labels (D, H, W) uint8 with the five bodies.

    The bodies have soft-tissue, vessel and bone values, lie in an elliptic trunk and touch each other here and there;
    texture, a slow shading and noise come from `seed`.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    wobble = [ndimage.gaussian_filter(rng.standard_normal(shape), (4, 8, 8)) for _ in range(3)]
    u, v, w = (g + 0.05 * f / f.std() for g, f in zip((z, y, x), wobble, strict=True))

    def ellipsoid(centre: tuple[float, float, float], radius: tuple[float, float, float]) -> NDArray[np.bool_]:
        squares = [((g - c) / r) ** 2 for g, c, r in zip((u, v, w), centre, radius, strict=True)]
        return sum(squares) <= 1

    trunk = (y / 0.85) ** 2 + (x / 0.95) ** 2 <= 1
    inside = (y / 0.78) ** 2 + (x / 0.89) ** 2 <= 1
    bodies = {
        1: ellipsoid((0.15, -0.15, -0.42), (0.6, 0.42, 0.4)),
        2: ellipsoid((0.1, 0.1, 0.6), (0.35, 0.26, 0.2)),
        3: ellipsoid((-0.35, 0.28, 0.42), (0.4, 0.2, 0.16)) & ~ellipsoid((-0.35, 0.2, 0.3), (0.2, 0.12, 0.12)),
        4: (y - 0.2 - 0.06 * np.sin(3 * z)) ** 2 + (x - 0.1 * np.sin(2 * z) - 0.05) ** 2 <= 0.075**2,
        5: (np.abs(z + 0.1) < 0.22) & (np.abs(y - 0.5) < 0.14) & (np.abs(x) < 0.18),
    }
    values = {1: 105.0, 2: 125.0, 3: 150.0, 4: 190.0, 5: 380.0}
    image = np.full(shape, -1000.0)
    image[trunk] = -90.0
    image[inside] = 40.0
    labels = np.zeros(shape, dtype=np.uint8)
    for number, body in bodies.items():
        labels[body & inside] = number
    for number, value in values.items():
        image[labels == number] = value
    image += 8 * wobble[0] / wobble[0].std() * trunk
    image = ndimage.gaussian_filter(image, (0.3, 0.7, 0.7)) + rng.normal(0, 14, shape)
    return np.clip(image, -1024, 3071).astype(np.int16), labels


def synthetic_files(folder: Path, seed: int = 0) -> DemoFiles:
    """Write the made-up volume and its labels as NIfTI into `folder`."""
    import nibabel

    image, labels = synthetic_arrays(seed)
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "synthetic_image.nii.gz", folder / "synthetic_labels.nii.gz"
    for path, array in zip(paths, (image, labels), strict=True):
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    return DemoFiles(
        image=paths[0],
        labels=paths[1],
        structures=dict(STRUCTURES),
        title="synthetic volume",
        source="made by limnet on this machine; says little about real images",
        synthetic=True,
    )
