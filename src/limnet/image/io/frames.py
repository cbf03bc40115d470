"""A folder of video frames or slices as PNG or JPEG files, in natural order of their names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from limnet.errors import InputError
from limnet.image.io.choice import chosen
from limnet.image.io.pictures import read_picture
from limnet.image.volume import Volume

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")


def visible(folder: Path) -> list[Path]:
    """Entries of a folder in natural order, without hidden files and what macOS leaves in archives."""
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".") and p.name != "__MACOSX"), key=natural)


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which frame2 comes before frame10."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name


def read_frames(folder: Path, index: int | None = None) -> Volume:
    """Read (T, H, W, 3), or (T, H, W) if every frame is gray; spacing 1. Alpha is dropped, palettes become colours.

    Raises:
        FileFormatError: a frame that cannot be read.
        InputError: frames of several sizes.
    """
    chosen(folder, 1, index)
    paths = [p for p in visible(folder) if p.suffix.lower() in FRAME_SUFFIXES and p.is_file()]
    first = read_picture(paths[0], palette=False)[0]
    dtype, color = first.dtype, first.ndim == 3
    stack = np.empty((len(paths), *first.shape), dtype)
    for number, path in enumerate(paths):
        frame = first if number == 0 else read_picture(path, palette=False)[0]
        if frame.shape[:2] != first.shape[:2]:
            raise InputError(
                f"frames of folder {folder} differ in size: {paths[0].name} is {first.shape[:2]}, {path.name} is "
                f"{frame.shape[:2]} (rows, columns). Give frames of one size"
            )
        if frame.dtype != dtype:
            raise InputError(f"{path} has {frame.dtype} pixels, {paths[0].name} {dtype}. Give frames of one bit depth")
        if frame.ndim == 3 and not color:
            stack, color = np.repeat(stack[..., None], 3, axis=3), True
        stack[number] = frame[..., None] if color and frame.ndim == 2 else frame
    return Volume.from_array(stack, source=folder)
