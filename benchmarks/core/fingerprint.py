"""Which data a finished object came from: marks of a case that say whether it is still the same.

`files_mark` looks at the files alone (path, size, time) and costs next to nothing: where it is that of an earlier run,
nothing has to be read. Where it is not, as in a folder that was moved or copied, `content_mark` decides: a hash of what
was read. Other data under the same names has another content, so that nothing finished on it is taken over.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.datasets.instances import InstanceNames
from limnet.datasets.walk import files_below

if TYPE_CHECKING:
    from benchmarks.core.rounds import Rounds
    from limnet.datasets.labelled import LabelledCase
    from limnet.volume import Volume

_DIGITS = 32
_CHUNK = 1 << 20


class _Unknown(Exception):
    """A value of which nobody can say which files it reads."""


def files_mark(case: LabelledCase, rounds: Rounds) -> str | None:
    """Hash of the names of a case's labels, and of path, size and time of every file that it is read from.

    Args:
        case: the case.
        rounds: how its objects are played; what they read of this case (boxes, start masks) belongs to its data.

    Returns:
        32 hex digits, or None where the files are not known: no path among the arguments of the case's callables, or
        an argument that is neither a path nor a plain value.
    """
    files: list[list[Any]] = []
    try:
        told = [_named(case), *(_told(v, files) for v in (case.read_image, case.read_labels, *_more(case, rounds)))]
    except _Unknown:
        return None
    return _hash([told, files]) if files else None


def content_mark(case: LabelledCase, volume: Volume, labels: NDArray[Any], rounds: Rounds) -> str:
    """Hash of a case as it was read; the same wherever its files lie.

    Args:
        case: the case.
        volume: its image.
        labels: its labels, (D, H, W).
        rounds: how its objects are played; what they read of this case is read here too (it is small).

    Returns:
        32 hex digits.

    Raises:
        OSError: something that the rounds need cannot be read.
    """
    digest = hashlib.sha1(usedforsecurity=False)  # the fastest one there is: voxels are many
    digest.update(json.dumps([_named(case), list(volume.spacing), volume.modality]).encode())
    for array in (volume.array, labels):
        _add(digest, array)
    for value in _more(case, rounds):
        if isinstance(value, os.PathLike):
            _add_file(digest, Path(value))
        elif callable(value):
            _add(digest, value())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:_DIGITS]


def array_mark(spacing: Sequence[float], *arrays: NDArray[Any]) -> str:
    """Hash of arrays and their spacing, 32 hex digits."""
    digest = hashlib.sha1(repr([float(step) for step in spacing]).encode(), usedforsecurity=False)
    for array in arrays:
        _add(digest, array)
    return digest.hexdigest()[:_DIGITS]


def folder_mark(folder: Path, *suffixes: str) -> str | None:
    """Hash of name, size and time of the files in a folder and below; None if there is no such folder.

    Args:
        folder: the folder; its own name does not count.
        suffixes: ends of the names that count.
    """
    if not folder.is_dir():
        return None
    return _hash([[path.relative_to(folder).as_posix(), *_stat(path)] for path in _inside(folder, suffixes)])


def _more(case: LabelledCase, rounds: Rounds) -> Iterator[Any]:
    """What the rounds read of this case: entries of those fields that say where data lies, see `Rounds`."""
    if not dataclasses.is_dataclass(rounds):
        return
    for field in dataclasses.fields(rounds):
        value = getattr(rounds, field.name)
        if not field.metadata.get("config", True) and isinstance(value, Mapping) and case.name in value:
            yield value[case.name]


def _named(case: LabelledCase) -> list[Any]:
    """Names of the labels, and which of them belong to which, as JSON types."""
    names: Any = case.labels
    runs = names.runs if isinstance(names, InstanceNames) else sorted((int(i), str(n)) for i, n in names.items())
    return [list(runs), sorted((int(i), [int(k) for k in more]) for i, more in case.includes.items())]


def _told(value: Any, files: list[list[Any]]) -> Any:
    """A value as JSON types; the files in it are added to `files`."""
    if isinstance(value, os.PathLike):
        path = Path(value)
        inside = _inside(path) if path.is_dir() else [path]
        files.extend([str(file.absolute()), *_stat(file)] for file in inside)
        return str(path.absolute())
    if isinstance(value, functools.partial):
        arguments = [_told(v, files) for v in (value.args, value.keywords)]
        return [f"{value.func.__module__}.{value.func.__qualname__}", *arguments]
    if isinstance(value, Mapping):
        return [[str(key), _told(value[key], files)] for key in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return [_told(v, files) for v in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    raise _Unknown


def _inside(folder: Path, suffixes: tuple[str, ...] = ("",)) -> list[Path]:
    return [path for path in files_below(folder) if path.name.endswith(suffixes) and path.is_file()]


def _stat(path: Path) -> list[Any]:
    try:
        about = path.stat()
    except OSError:
        return ["missing"]
    return [about.st_size, about.st_mtime_ns]


def _add(digest: Any, array: Any) -> None:
    """Type, shape and voxels, slice by slice: an array in another order of memory is copied one slice at a time."""
    values = np.atleast_1d(np.asarray(array))
    digest.update(f"{values.dtype.str}{values.shape}".encode())
    if values.dtype.hasobject:  # no image, and refused as one later
        digest.update(repr(values).encode())
        return
    for plane in values:
        digest.update(np.ascontiguousarray(plane))


def _add_file(digest: Any, path: Path) -> None:
    """Content of a file; of an archive (.npz) what its table of contents says of it, which is there without reading."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            digest.update(repr([(i.filename, i.file_size, i.CRC) for i in archive.infolist()]).encode())
        return
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def _hash(told: Any) -> str:
    return hashlib.sha1(json.dumps(told, sort_keys=True).encode(), usedforsecurity=False).hexdigest()[:_DIGITS]
