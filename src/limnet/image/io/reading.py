"""Safe reading: sizes looked at before memory is taken, what other packages raise as limnet's own errors, choices."""

from __future__ import annotations

import gzip
import operator
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import IO

from limnet.errors import (
    FileFormatError,
    InputError,
    InputTypeError,
    LimnetError,
    MissingFileError,
    NotEnoughMemoryError,
    OutsideError,
)

_GZIP = b"\x1f\x8b"
_BEGINNINGS = (_GZIP, b"\x5c\x01", b"\x1c\x02", b"\0\0")  # of NIfTI 1 and 2 and MGH: packed, little-endian, big-endian
_DEFLATE = 1032  # deflate packs at most this many bytes into one (zlib's documentation)
_SLACK = 1 << 16  # headers and end marks of compressed files
_CHUNK = 1 << 22


class SeveralError(InputError):
    """Several volumes in a file or folder, and none was chosen: `found` says what is there."""

    def __init__(self, found: str, how: str) -> None:
        super().__init__(f"{found}. Choose one with {how}")
        self.found = found


def first_few(items: Iterable[object]) -> str:
    """The first five of some names or numbers, for a message."""
    found = [str(item) for item in items]
    return ", ".join(found[:5]) + " ..." * (len(found) > 5)


@contextmanager
def explained(path: Path, advice: str = "Copy or download it again") -> Iterator[None]:
    """Whatever a reader raises inside, as an error of limnet that names the file.

    A lack of memory is NotEnoughMemoryError, which is no damage; what is not limnet's own error becomes
    FileFormatError, with `advice` for a damaged file.
    """
    try:
        yield
    except InputError as error:
        if path.name in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except LimnetError:
        raise
    except FileNotFoundError as error:
        if path.exists():
            raise FileFormatError(
                f"{path} could not be read: a file that belongs to it is missing ({error})"
            ) from error
        raise MissingFileError(f"{path} does not exist. Check the path") from error
    except Exception as error:  # parsers of foreign files raise anything: struct, tokenize, attribute errors, ...
        if isinstance(error, MemoryError) or "allocate memory" in str(error) or "bad_alloc" in str(error):
            raise NotEnoughMemoryError(
                f"{path} does not fit into the memory of this computer. Close other programs, crop or resample the "
                "volume, or use a computer with more memory"
            ) from error
        raise FileFormatError(f"{path} could not be read: {reason_of(path, error, advice)}") from error


def reason_of(path: Path, error: Exception, advice: str = "Copy or download it again") -> str:
    """Why a file could not be read, in words for its owner: empty, wrongly named, or cut short."""
    start = b"-"
    if path.is_file():
        try:
            with open(path, "rb") as file:
                start = file.read(2)
        except OSError as denied:
            return str(denied)
    if not start:
        return f"the file is empty. {advice}"
    named = path.name.lower().endswith((".gz", ".mgz"))
    if path.is_file() and named != (start == _GZIP) and start in _BEGINNINGS:
        other = {".gz": ".nii", ".mgz": ".mgh"} if named else {".nii": ".nii.gz", ".mgh": ".mgz"}
        if path.suffix.lower() in other:
            return f"it is {'not ' if named else ''}gzip-compressed. Rename it to {other[path.suffix.lower()]}"
    detail = reason(error) if isinstance(error, RuntimeError) else " ".join(str(error).split())
    return f"it is cut short, damaged or not what its name says ({detail or type(error).__name__}). {advice}"


def reason(error: RuntimeError) -> str:
    """The telling line of a SimpleITK error; `No such file` is dropped, which it says of damaged files too."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and "No such file" not in line and not line.startswith("Exception thrown")]
    return kept[-1] if kept else "no details"


def check_room(path: Path, needed: int, held: int, packed: bool = False) -> None:
    """Refuse a file that cannot hold the voxels its header promises, before memory is taken for them.

    `needed` are the bytes of the voxels by the header, `held` those of the file, `packed` if compressed. Warns of bytes
    left over, a sign of damaged sizes in the header.
    """
    if needed > (held * _DEFLATE + _SLACK if packed else held):
        raise FileFormatError(
            f"{path} could not be read: it is cut short, damaged or not what its name says (its header promises "
            f"{needed} bytes of voxels, it holds {held}{' packed' if packed else ''}). Copy or download it again"
        )
    if not packed and held > needed + 2:  # a line end after the voxels is harmless
        warnings.warn(
            f"{path} holds {held - needed} bytes more than its header speaks of: it may be damaged. Check the image"
        )


def is_gzip(path: Path) -> bool:
    """Whether a file is gzip-compressed by its first bytes."""
    with open(path, "rb") as file:
        return file.read(2) == _GZIP


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark after its preamble."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def check_gzip(path: Path) -> None:
    """Read a gzip file to its end, where its checksum is; readers stop at the last voxel. Raises what gzip raises."""
    if is_gzip(path):
        with open(path, "rb") as file:
            unpacked_size(file)


def unpacked_size(file: IO[bytes]) -> int:
    """Bytes a gzip stream unpacks to, from where the file is to its end; raises what gzip raises of a wrong sum."""
    total = 0
    with gzip.GzipFile(fileobj=file) as unpacked:
        while piece := unpacked.read(_CHUNK):
            total += len(piece)
    return total


def chosen(path: Path, count: int, index: int | None, what: str = "volumes") -> int:
    """The checked index among `count` volumes (which may be 1)."""
    if index is None:
        if count == 1:
            return 0
        raise SeveralError(f"{path} holds {count} {what}", f"index=0..{count - 1} (on the command line --index)")
    try:
        number = operator.index(index)
    except TypeError as error:
        raise InputTypeError(f"index {index!r} came: expected a whole number 0..{count - 1}") from error
    if not 0 <= number < count:
        raise OutsideError(f"number {number} came, but {path} holds {count} {what}: allowed are 0..{count - 1}")
    return number


def local_path(text: str, folder: Path) -> Path:
    """Where a path leads that is written in a file of `folder`; relative paths count from there.

    Of a Windows path on another system a relative one gets other slashes, an absolute one is its name in the folder.
    """
    if os.sep == "\\" or "\\" not in text or (folder / text).exists():
        return folder / text
    path = PureWindowsPath(text)
    return folder / path.name if path.anchor else folder.joinpath(*path.parts)


def place_of(text: str, folder: Path) -> Path:
    """Where the file is that a path leads to, as `local_path`; an absolute one may have moved along into the folder."""
    local = local_path(text, folder)
    beside = folder / local.name
    return beside if Path(text).is_absolute() and not local.exists() and beside.exists() else local
