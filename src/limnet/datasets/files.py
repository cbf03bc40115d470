"""Image and label files of data sets: the functions that lazily read cases are partials of.

Volumes (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npy, .npz) come as (D, H, W); pictures (.png, .jpg, .jpeg, .bmp,
.tif, .tiff) as one slice (1, H, W) or (1, H, W, 3), multi-page TIFF as (D, H, W), with the spacing of nnU-Net's .json.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.cache import smallest_unsigned
from limnet.errors import FileFormatError, MissingFileError
from limnet.image.io.formats import known_suffix
from limnet.image.io.pictures import PICTURES, read_picture
from limnet.image.volume import Volume

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
    volume = Volume.read(path, index=channel)
    return volume if volume.modality else replace(volume, modality=modality.upper() if modality else None)


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
