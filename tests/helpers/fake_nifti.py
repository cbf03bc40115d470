"""Tiny NIfTI files with the oddities of real ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray


def oriented_affine(codes: str = "LPS", steps: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> NDArray[np.float64]:
    """Affine whose index axes run in the directions `codes`, `steps` mm each (index order)."""
    world = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (code, step) in enumerate(zip(codes, steps, strict=True)):
        row, sign = world[code]
        affine[row, axis] = sign * step
    return affine


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[Any] | None = None) -> Path:
    """Write an array in nibabel's index order (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, oriented_affine() if affine is None else affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def write_side_file(path: Path) -> Path:
    """What macOS leaves beside a file in an archive: the name of the file with `._` before it."""
    side = path.with_name(f"._{path.name}")
    side.parent.mkdir(parents=True, exist_ok=True)
    side.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    return side


def ct(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Noise in Hounsfield units."""
    return np.random.default_rng([seed, *shape]).integers(-200, 300, shape).astype(np.int16)


def blocks(shape: tuple[int, int, int], ids: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    """A label map with one bar per id, from the second to the last but one slice of the last axis."""
    labels = np.zeros(shape, dtype)
    edges = np.linspace(1, shape[0] - 1, len(ids) + 1).astype(int)
    for number, (start, stop) in enumerate(pairwise(edges)):
        labels[start:stop, 1 : shape[1] - 1, 1 : shape[2] - 1] = ids[number]
    return labels


def damage(path: Path) -> None:
    """Cut a file in half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
