"""Tiny pictures and masks in the modes of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHAPE = (40, 56)
PALETTE = [v for i in range(256) for v in ((i * 53) % 256, (i * 97 + 60) % 256, (i * 151 + 120) % 256)]


def disc(row: float, column: float, radius: float, shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    """A filled circle."""
    rows, columns = np.indices(shape)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def photo(mask: NDArray[Any], seed: int = 0) -> NDArray[np.uint8]:
    """A colour picture in which every label has a colour of its own."""
    rng = np.random.default_rng([seed, 7])
    colours = rng.integers(40, 220, (int(mask.max()) + 1, 3))
    noise = rng.integers(-12, 13, (*mask.shape, 3))
    return np.clip(colours[mask.astype(int)] + noise, 0, 255).astype(np.uint8)


def write_picture(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Save an array: uint8 gray, RGB or RGBA, bool as one bit, uint16 as 16 bits; suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_palette(path: Path, indices: NDArray[Any]) -> Path:
    """Save indices as a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(PALETTE)
    picture.save(path)
    return path
