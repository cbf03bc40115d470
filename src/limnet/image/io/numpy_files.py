"""NumPy files: .npy (an array) and .npz (`image` and optionally `spacing`; masks as `label` and `spacing`).

Arrays of .npz archives also in pieces: shape and dtype from the header, slices without the whole array.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from limnet.errors import FileFormatError
from limnet.image.io.reading import check_room, chosen, explained
from limnet.image.volume import Volume

_SLAB_BYTES = 1 << 23
_NPY = b"\x93NUMPY"
_ADVICE = "It has to hold plain numbers, no Python objects: save it again with numpy.save or numpy.savez"


def read_npy(path: Path, index: int | None = None) -> Volume:
    """Read an array (D, H, W) or (T, H, W, 3), or one `index` of (N, D, H, W); spacing 1 mm. Pickles are refused."""
    found = load_arrays(path)
    if isinstance(found, dict):
        raise FileFormatError(f"{path} is a .npz archive by its content. Rename it to .npz")
    return Volume.from_array(_one(path, found, index), source=path)


def read_npz(path: Path, index: int | None = None) -> Volume:
    """Read keys `image`, (D, H, W) or (T, H, W, 3) or one `index` of (N, D, H, W), and `spacing`, mm in that order."""
    found = load_arrays(path, "image", "spacing")
    if not isinstance(found, dict):
        raise FileFormatError(f"{path} could not be read: it is a single array by its content. Rename it to .npy")
    spacing = found.get("spacing")
    return Volume.from_array(
        _one(path, found["image"], index), None if spacing is None else spacing.ravel().tolist(), source=path
    )


def load_label(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The array of a .npy file, or `label` and `spacing` (None without) of a .npz file; pickles are refused."""
    found = load_arrays(path, "label", "spacing")
    if not isinstance(found, dict):
        return found, None
    return found["label"], found["spacing"].ravel() if "spacing" in found else None


def load_arrays(path: Path, key: str = "", *others: str) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The array of a .npy file, or the array `key` of a .npz file and those of `others` that are there.

    Raises:
        MissingFileError: not there.
        FileFormatError: damaged, Python objects, or no array of that key.
        NotEnoughMemoryError: it does not fit into memory.
    """
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
    """Write `label` (or `values` for floats) and `spacing` in mm, both in array order."""
    spacing = np.array(volume.spacing)
    with open(path, "wb") as file:
        if array.dtype.kind == "f":
            np.savez_compressed(file, values=array, spacing=spacing)
        else:
            np.savez_compressed(file, label=array, spacing=spacing)


def _one(path: Path, array: NDArray[Any], index: int | None) -> NDArray[Any]:
    several = array.ndim == 4 and (index is not None or array.shape[3] != 3)
    number = chosen(path, array.shape[0] if several else 1, index)
    return array[number] if several else array


def _check(path: Path, file: IO[bytes], size: int, packed: bool = False) -> None:
    """Refuse an array that promises more numbers than there is room for."""
    shape, dtype, _ = read_header(file)
    if not dtype.hasobject:
        check_room(path, math.prod(shape) * dtype.itemsize, size if packed else size - file.tell(), packed)


class NpzHeader(NamedTuple):
    """Shape and dtype of an array in an archive, and whether it is stored in Fortran order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def npz_headers(path: Path) -> dict[str, NpzHeader]:
    """Key -> header of every array, without reading one.

    Raises:
        MissingFileError: not there.
        FileFormatError: no .npz archive.
    """
    with opened_npz(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        headers = {}
        for name in names:
            with archive.open(name) as file:
                headers[name.removesuffix(".npy")] = read_header(file)
        return headers


def npz_slabs(path: Path, key: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """An array along its first axis, a few slices at a time; one in Fortran order comes in one piece.

    Yields:
        The number of the first slice and the piece; about 8 MB, at least one slice.

    Raises:
        MissingFileError: not there.
        FileFormatError: no such key, Python objects, damaged or cut short.
    """
    with opened_npz(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            keys = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
            raise FileFormatError(f"{path} has no array {key!r}, only {keys}. Copy or download it again")
        with archive.open(f"{key}.npy") as file:
            shape, dtype, fortran = read_header(file)
            if dtype.hasobject:
                raise FileFormatError(f"array {key!r} of {path} holds Python objects, numbers are expected")
            if fortran or not shape:
                yield 0, _piece(file, shape[::-1] if fortran else shape, dtype, path, key, fortran)
                return
            each = max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
            step = max(1, _SLAB_BYTES // each)
            for start in range(0, shape[0], step):
                yield start, _piece(file, (min(step, shape[0] - start), *shape[1:]), dtype, path, key)
            file.read(1)  # reaching the end verifies the checksum


@contextmanager
def opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; errors while it is open are explained."""
    with explained(path), zipfile.ZipFile(path) as archive:
        yield archive


def read_header(file: IO[bytes]) -> NpzHeader:
    """Read the header of an .npy file and leave `file` at its data; raises ValueError for another file."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return NpzHeader(tuple(int(n) for n in shape), dtype, bool(fortran))


def _piece(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], path: Path, key: str, turn: bool = False
) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise FileFormatError(f"array {key!r} of {path} is cut short. Download it again")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.T if turn else array
