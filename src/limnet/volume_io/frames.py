"""A folder of video frames or slices as PNG or JPEG files, in natural order of their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.volume import Volume
from limnet.volume_io.choice import chosen

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
    first = _frame(paths[0])
    dtype, color = first.dtype, first.ndim == 3
    stack = np.empty((len(paths), *first.shape), dtype)
    for number, path in enumerate(paths):
        frame = first if number == 0 else _frame(path)
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


def _frame(path: Path) -> NDArray[Any]:
    """(H, W) gray or (H, W, 3) colour."""
    import SimpleITK

    try:
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError as error:
        if "PixelType" in str(error):
            advice = "it is of a kind that is not supported (gray with transparency?). Save it as plain gray or RGB"
        else:
            advice = "it is cut short, damaged or no image. Replace it"
        raise FileFormatError(f"frame {path} could not be read: {advice}") from error
    return pixels[..., :3] if pixels.ndim == 3 else pixels
