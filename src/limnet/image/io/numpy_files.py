"""NumPy files: .npy (an array) and .npz (`image` and optionally `spacing`; masks as `label` and `spacing`)."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from limnet.errors import FileFormatError
from limnet.image.io.reading import check_room, chosen, explained
from limnet.image.volume import Volume

_NPY = b"\x93NUMPY"
_ADVICE = "It has to hold plain numbers, no Python objects: save it again with numpy.save or numpy.savez"


def read_npy(path: Path, index: int | None = None) -> Volume:
    """Read an array (D, H, W) or (T, H, W, 3), or one `index` of (N, D, H, W); spacing 1 mm. Pickles are refused."""
    return Volume.from_array(_one(path, load_npy(path), index), source=path)


def read_npz(path: Path, index: int | None = None) -> Volume:
    """Read keys `image`, (D, H, W) or (T, H, W, 3) or one `index` of (N, D, H, W), and `spacing`, mm in that order."""
    found = load_npz(path, "image", "spacing")
    spacing = found["spacing"].ravel().tolist() if "spacing" in found else None
    return Volume.from_array(_one(path, found["image"], index), spacing, source=path)


def load_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file; raises as `load_npz`."""
    found = _loaded(path)
    if isinstance(found, dict):
        raise FileFormatError(f"{path} is a .npz archive by its content. Rename it to .npz")
    return found


def load_npz(path: Path, key: str, *others: str) -> dict[str, NDArray[Any]]:
    """The array `key` of a .npz file and those of `others` that are there.

    FileFormatError for damage, Python objects, or no array of that key.
    """
    found = _loaded(path, key, *others)
    if not isinstance(found, dict):
        raise FileFormatError(f"{path} could not be read: it is a single array by its content. Rename it to .npy")
    return found


def _loaded(path: Path, key: str = "", *others: str) -> NDArray[Any] | dict[str, NDArray[Any]]:
    with explained(path, _ADVICE):
        with open(path, "rb") as file:
            if file.read(6) == _NPY:
                file.seek(0)
                _check(path, file, os.fstat(file.fileno()).st_size)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            wanted = [name for name in (key, *others) if name in archive.files]
            if key and key not in wanted:
                raise FileFormatError(
                    f"{path} has no key {key!r}, only {archive.files}. Save with "
                    f"numpy.savez(path, {key}=..., spacing=...)"
                )
            for name in wanted:
                item = archive.zip.getinfo(f"{name}.npy")
                with archive.zip.open(item) as file:
                    _check(path, file, item.compress_size, packed=item.compress_type != zipfile.ZIP_STORED)
            return {name: archive[name] for name in wanted}


def write_npy(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write the array alone."""
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_npz(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write `label` and `spacing` in mm, both in array order."""
    with open(path, "wb") as file:
        np.savez_compressed(file, label=array, spacing=np.array(volume.spacing))


def _one(path: Path, array: NDArray[Any], index: int | None) -> NDArray[Any]:
    several = array.ndim == 4 and (index is not None or array.shape[3] != 3)
    number = chosen(path, array.shape[0] if several else 1, index)
    return array[number] if several else array


def _check(path: Path, file: IO[bytes], size: int, packed: bool = False) -> None:
    """Refuse an array that promises more numbers than there is room for."""
    shape, dtype = read_header(file)
    if not dtype.hasobject:
        check_room(path, math.prod(shape) * dtype.itemsize, size if packed else size - file.tell(), packed)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a .npy file, which is left at its data; raises ValueError for another file."""
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return tuple(int(n) for n in shape), dtype
