"""Arrays of .npz archives in pieces: shape and dtype from the header, voxels slab by slab without the whole array."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from limnet.errors import FileFormatError, MissingFileError

_SLAB_BYTES = 1 << 23


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
    """The archive; what zipfile and numpy raise while it is open becomes a FileFormatError with the cause."""
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (FileFormatError, MissingFileError):
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise FileFormatError(
            f"{path} could not be read ({error}): it is cut short or damaged. Download it again"
        ) from error


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
