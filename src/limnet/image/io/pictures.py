"""Pictures as volumes: a PNG, JPEG, BMP or TIFF is a slice, a TIFF of several pages, a folder or a video a stack."""

from __future__ import annotations

import json
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError
from limnet.image.io.reading import chosen, explained
from limnet.image.volume import Volume

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
VIDEOS = (".avi", ".mp4")
_ORIENTATION = 274
_DEFLATE = (8, 32946)  # compression codes of TIFF
_COMPRESSION, _OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS, _DESCRIPTION = 259, 273, 279, 324, 325, 270


def read_picture_volume(path: Path, index: int | None = None) -> Volume:
    """Read a picture as (1, H, W) or (1, H, W, 3), a TIFF of several pages as (D, H, W) or (D, H, W, 3).

    Spacing is 1 mm, or what nnU-Net's .json beside a TIFF stack says; pixels as `read_picture` with colours of
    palettes.
    """
    chosen(path, 1, index)
    pixels = read_picture(path, palette=False)
    return Volume.from_array(pixels, _tiff_spacing(path, pixels), source=path)


def read_picture(path: Path, palette: bool = True) -> NDArray[Any]:
    """Pixels of a picture as it is shown: (D, H, W) or (D, H, W, 3), D = 1 but for multi-page TIFF.

    Transparency is dropped. A picture that carries the orientation of a camera (EXIF) is turned by it, with a warning,
    as every viewer and annotation tool does; a mask has the turned rows and columns. Palette pictures give their
    indices and one-bit ones 0 and 1; with `palette=False` colours, and 0 and 255.

    Raises:
        FileFormatError: damaged, no picture, too large for Pillow, or pages of several sizes.
        InputError: a microscope's stack of several channels or times.
    """
    from PIL import Image, ImageSequence

    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist; check the path")
    try:
        with explained(path), Image.open(path) as picture:
            if picture.format == "PNG":
                with Image.open(path) as again:
                    again.verify()  # checksums, which loading passes over
            if picture.format != "TIFF":
                return _turned(_pixels(picture, palette), picture, path)[None]
            _check_axes(picture, path)
            pages = []
            for page in ImageSequence.Iterator(picture):
                _check_strips(page, path)
                pages.append(_pixels(page, palette))
    except LimnetError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise FileFormatError(
                f"{path} is larger than Pillow opens, or its header is damaged ({error.__cause__}). Cut it into tiles, "
                "or copy it again"
            ) from error
        raise
    shapes = {page.shape for page in pages}
    if len(shapes) > 1:
        raise FileFormatError(
            f"{path} holds {len(pages)} pages of several sizes or kinds {sorted(shapes)}, no stack of slices. "
            "Save the pages that belong together as a file of their own"
        )
    return np.stack(pages)


def visible(folder: Path) -> list[Path]:
    """Entries of a folder in natural order, without hidden files and what macOS leaves in archives."""
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".") and p.name != "__MACOSX"), key=natural)


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which frame2 comes before frame10."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name


def read_frames(folder: Path, index: int | None = None) -> Volume:
    """Read (T, H, W, 3), or (T, H, W) if every frame is gray; spacing 1. Alpha is dropped, palettes become colours."""
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


def read_video(path: Path, index: int | None = None) -> Volume:
    """Read (T, H, W, 3) uint8; spacing 1."""
    chosen(path, 1, index)
    try:
        import imageio.v3
        import imageio_ffmpeg  # noqa: F401 - the part that decodes
    except ImportError as error:
        raise InputError(
            f"reading the video {path} needs imageio with FFmpeg, which is not installed; run: "
            'pip install "imageio[ffmpeg]". Or save its frames as PNG files in a folder'
        ) from error
    frames = list(imageio.v3.imiter(path, plugin="FFMPEG"))
    if not frames:
        raise FileFormatError(f"{path} holds no frame that can be decoded. Copy it again")
    return Volume.from_array(np.stack(frames), source=path)


def write_png(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write one slice of labels as gray PNG of 8 or 16 bits."""
    from PIL import Image

    if array.shape[0] != 1:
        raise InputError(f"a PNG holds one slice, here are {array.shape[0]}: take .tif, .nii.gz, .nrrd or .mha")
    Image.fromarray(array[0]).save(path, format="PNG")


def write_tiff(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write slices as pages, compressed without loss."""
    from PIL import Image

    first, *others = (Image.fromarray(page) for page in array)
    first.save(path, format="TIFF", compression="tiff_adobe_deflate", save_all=True, append_images=others)


def _pixels(picture: Any, palette: bool) -> NDArray[Any]:
    if ";16" in str([tile[3] for tile in picture.tile]) and picture.mode in ("RGB", "RGBA", "LA"):
        return _deep_color(Path(picture.filename), picture)
    if not palette and picture.mode in ("P", "PA", "1"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB"):
        picture = picture.convert("L" if picture.mode in ("LA", "La") else "P" if picture.mode == "PA" else "RGB")
    array = np.array(picture)
    return array.astype(np.uint8) if array.dtype == bool else array


def _turned(pixels: NDArray[Any], picture: Any, path: Path) -> NDArray[Any]:
    """Pixels (H, W, ...) as the camera's orientation says (EXIF 2.32, 4.6.5.1.6); Pillow turns TIFF by itself."""
    orientation = picture.getexif().get(_ORIENTATION, 1)
    if orientation not in range(2, 9):
        return pixels
    warnings.warn(
        f"{path} is turned as its orientation (EXIF {orientation}) says: so is the mask, not the stored pixels"
    )
    pixels = pixels.swapaxes(0, 1) if orientation > 4 else pixels
    pixels = pixels[::-1] if orientation in (3, 4, 7, 8) else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels)


def _deep_color(path: Path, picture: Any) -> NDArray[Any]:
    """Colour of 16 bits, which Pillow cuts to 8."""
    import SimpleITK

    if getattr(picture, "n_frames", 1) > 1:
        raise InputError(f"{path} has several pages of 16-bit colour: save them as 8 bits, or one page a file")
    pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    if pixels.shape[:2] != (picture.height, picture.width) or pixels.ndim != 3:
        raise FileFormatError(f"{path} is of a kind that cannot be read with 16 bits. Save it as 8 bits or gray")
    return pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]


def _check_axes(picture: Any, path: Path) -> None:
    """Refuse microscope stacks whose pages are not simply slices, by what ImageJ and OME write into them."""
    text = str(picture.tag_v2.get(_DESCRIPTION, ""))
    counts = {key: int(value) for key, value in re.findall(r"^(images|channels|slices|frames)=(\d+)", text, re.M)}
    counts |= {key: int(value) for key, value in re.findall(r'\bSize([ZCT])="(\d+)"', text)}
    channels = counts.get("channels", counts.get("C", 1))
    color = picture.mode in ("RGB", "RGBA") and channels in (3, 4)
    slices, times = counts.get("slices", counts.get("Z", 1)), counts.get("frames", counts.get("T", 1))
    if (channels > 1 and not color) or (slices > 1 and times > 1):
        raise InputError(
            f"{path} is a stack of {channels} channels, {slices} slices and {times} times. Save one channel of one time"
        )
    if counts.get("images", 1) > 1 and picture.n_frames == 1:
        raise InputError(
            f"{path} says that it holds {counts['images']} images, but has a single page, as ImageJ writes stacks of "
            "more than 4 GB. Save it as NIfTI, NRRD or several TIFF files"
        )


def _check_strips(page: Any, path: Path) -> None:
    """Checksums of deflated strips and tiles, which libtiff passes over."""
    tags = page.tag_v2
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    offsets = tags.get(_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
    counts = tags.get(_COUNTS) or tags.get(_TILE_COUNTS) or ()
    with open(path, "rb") as file:
        for offset, count in zip(offsets, counts, strict=True):
            file.seek(offset)
            zlib.decompress(file.read(count))


def _tiff_spacing(path: Path, pixels: NDArray[Any]) -> tuple[float, float, float] | None:
    """Spacing of a stack (D, H, W) by nnU-Net's file beside it: `case.json` for `case_0000.tif`; None without one."""
    side = path.with_name(re.sub(r"_\d{4}$", "", path.stem) + ".json")
    if pixels.shape[0] == 1 or path.suffix.lower() not in (".tif", ".tiff") or not side.is_file():
        return None
    try:
        content = json.loads(side.read_text(encoding="utf-8"))
        given = content.get("spacing") if isinstance(content, dict) else None
        if given is None:
            return None
        depth, height, width = (float(step) for step in given)
    except (OSError, ValueError, TypeError) as error:
        raise FileFormatError(f'{side} should hold {{"spacing": [z, y, x]}} in mm: {error}') from error
    return depth, height, width
