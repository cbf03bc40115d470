"""A film out of one picture: turned, shifted, scaled and sheared a little more from frame to frame.

The movement is drawn from the file's name alone, so image and labels move alike and every reading is the same.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.datasets.pictures import read_objects
from limnet.image.io.pictures import read_picture
from limnet.image.volume import Volume

TURN, SHEAR, SCALE, SHIFT = 20.0, 10.0, 0.2, 0.1  # degrees, degrees, share, share of the side: at the last frame


def moved_picture(path: Path, frames: int) -> Volume:
    """Frames of the moved picture, (frames, H, W, 3) or (frames, H, W), edges continued.

    Args:
        path: the picture.
        frames: how many; the first one is the picture itself.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged.
    """
    picture = read_picture(path, palette=False)[0]
    film = np.empty((frames, *picture.shape), picture.dtype)
    for number, matrix in enumerate(movement(path.name, frames, picture.shape[:2])):
        channels = picture[..., None] if picture.ndim == 2 else picture
        moved = np.stack([_move(channels[..., c], matrix, 1, "nearest") for c in range(channels.shape[-1])], -1)
        film[number] = moved[..., 0] if picture.ndim == 2 else moved
    return Volume.from_array(film, source=path)


def moved_labels(path: Path, mask: Path, frames: int, above: int = 127) -> NDArray[np.uint8]:
    """Labels of the moved picture, uint8 (frames, H, W).

    Args:
        path: the picture, whose name decides the movement.
        mask: its mask.
        frames: how many.
        above: see `read_objects`.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged.
    """
    labels = read_objects((mask,), above)[0]
    return np.stack([_move(labels, matrix, 0, "constant") for matrix in movement(path.name, frames, labels.shape)])


def movement(name: str, frames: int, shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """(3, 3) matrices from (row, column, 1) of every frame to those of the picture; the first one changes nothing.

    Args:
        name: decides the movement.
        frames: how many.
        shape: rows and columns.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    turn, shear = np.deg2rad(rng.uniform(-1, 1, 2) * (TURN, SHEAR))
    scale, *shift = rng.uniform(-1, 1, 3) * (SCALE, SHIFT * shape[0], SHIFT * shape[1])
    centre = (np.array(shape[:2]) - 1) / 2
    found = []
    for share in np.linspace(0, 1, frames) if frames > 1 else [0.0]:
        angle, size = share * turn, np.exp(share * scale)
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * size
        matrix = np.eye(3)
        matrix[:2, :2] = turned @ np.array([[1, np.tan(share * shear)], [0, 1]])
        matrix[:2, 2] = centre - matrix[:2, :2] @ (centre + share * np.array(shift))
        found.append(matrix)
    return found


def _move(
    plane: NDArray[Any], matrix: NDArray[np.float64], order: Literal[0, 1], mode: Literal["nearest", "constant"]
) -> NDArray[Any]:
    return ndimage.affine_transform(plane, matrix[:2, :2], matrix[:2, 2], order=order, mode=mode)
