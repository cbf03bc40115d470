"""Image and label files of data sets: the functions that lazily read cases are partials of.

Volumes (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npy, .npz) come as (D, H, W); pictures (.png, .jpg, .jpeg, .bmp,
.tif, .tiff) as one slice (1, H, W) or (1, H, W, 3), multi-page TIFF as (D, H, W), with the spacing of nnU-Net's .json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.volume import Volume
from limnet.volume_io.formats import known_suffix

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz", ".npy")
_TABLE = dict.fromkeys((*PICTURES, *VOLUMES))
_LABEL_KEYS = ("label", "labels", "mask", "seg", "gts")


def image_suffix(path: Path) -> str | None:
    """The suffix by which a file is read as image or label map; None for side files, hidden files and others."""
    if path.name.startswith("."):
        return None
    return known_suffix(path, _TABLE)


def image_stem(path: Path) -> str:
    """File name without its image suffix: `a.b.nii.gz` -> `a.b`."""
    return path.name[: len(path.name) - len(image_suffix(path) or "")]


def read_image_file(path: Path, channel: int | None = None, modality: str | None = None) -> Volume:
    """Read a volume or picture.

    Args:
        path: the file.
        channel: which volume of a 4-D file.
        modality: "CT", "MR" when known.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged.
        InputError: 4-D without a channel, or an unknown suffix.
    """
    path = Path(path)
    if image_suffix(path) in PICTURES:
        pixels = read_picture(path)
        return Volume.from_array(pixels, _tiff_spacing(path, pixels), modality=modality, source=path)
    volume = Volume.read(path, index=channel)
    if modality and volume.modality is None:
        return Volume.from_array(
            volume.array,
            affine=volume.affine,
            convention=volume.convention,
            modality=modality,
            source=path,
            header=volume.header,
        )
    return volume


def read_label_file(path: Path, channel: int | None = None) -> NDArray[Any]:
    """Read a label map as whole numbers (D, H, W).

    Palette pictures give their indices, 16-bit ones their values, 1-bit ones 0 and 1; colour is refused unless its
    channels agree.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, colours, or values that are no whole numbers of at least 0.
    """
    path = Path(path)
    suffix = image_suffix(path)
    if suffix in PICTURES:
        array = read_picture(path)
        if array.ndim == 4:
            if (array != array[..., :1]).any():
                raise FileFormatError(f"{path} holds colours; give a mask of label numbers (gray or palette)")
            array = array[..., 0]
    elif suffix == ".npz":
        array = _npz_labels(path)
    else:
        array = Volume.read(path, index=channel).array
    if array.ndim != 3:
        raise FileFormatError(f"{path} holds labels of shape {array.shape}; expected (D, H, W), one number a voxel")
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if not np.array_equal(whole, array):
            raise FileFormatError(f"{path} holds fractions, it is no label map. Give one with whole numbers")
        array = whole
    if array.size and int(array.min()) < 0:
        raise FileFormatError(f"{path} has negative labels, down to {int(array.min())}. Labels are 0 and above")
    return smallest_unsigned(array)


def read_picture(path: Path, palette: bool = True) -> NDArray[Any]:
    """Pixels of a picture as they are stored: (D, H, W) or (D, H, W, 3), D = 1 but for multi-page TIFF.

    Transparency is dropped. One-bit pictures give 0 and 1.

    Args:
        path: the file.
        palette: palette pictures give their indices; False gives colours, and 0 and 255 for one-bit ones.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, no picture, too large for Pillow, or pages of several sizes.
        InputError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageSequence
    except ImportError as error:
        raise InputError("reading pictures needs Pillow, which is not installed; run: pip install pillow") from error
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist; check the path")
    try:
        with Image.open(path) as picture:
            if picture.format == "TIFF":
                return np.stack([_pixels(page, palette) for page in ImageSequence.Iterator(picture)])
            return _pixels(picture, palette)[None]
    except Image.DecompressionBombError as error:
        raise FileFormatError(
            f"{path} is larger than Pillow opens, or its header is damaged ({error}). Cut it into tiles, or copy it "
            "again"
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise FileFormatError(f"{path} could not be read as a picture ({error}). Copy or download it again") from error


def smallest_unsigned(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (>= 0) in the smallest unsigned dtype that holds them."""
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    highest = int(labels.max()) if labels.size else 0
    for dtype in (np.uint8, np.uint16, np.uint32):
        if highest <= np.iinfo(dtype).max:
            return labels.astype(dtype, copy=False)
    return labels.astype(np.uint64, copy=False)


def _tiff_spacing(path: Path, pixels: NDArray[Any]) -> tuple[float, float, float] | None:
    """Spacing of a stack (D, H, W) by nnU-Net's file beside it: `case.json` for `case_0000.tif`; None without one."""
    side = path.with_name(re.sub(r"_\d{4}$", "", image_stem(path)) + ".json")
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


def _pixels(picture: Any, palette: bool) -> NDArray[Any]:
    if not palette and picture.mode in ("P", "PA", "1"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB"):
        picture = picture.convert("L" if picture.mode in ("LA", "La") else "P" if picture.mode == "PA" else "RGB")
    array = np.array(picture)
    return array.astype(np.uint8) if array.dtype == bool else array


def _npz_labels(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; check the path")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            key = next((k for k in _LABEL_KEYS if k in names), names[0] if len(names) == 1 else None)
            if key is None:
                raise FileFormatError(f"{path} has keys {names}; a label map is expected as 'label'")
            return archive[key]
    except FileFormatError:
        raise
    except Exception as error:
        raise FileFormatError(f"{path} could not be read: {error}. Copy or download it again") from error
