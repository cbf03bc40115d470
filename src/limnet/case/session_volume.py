"""How a session file refers to its volume: by path and fingerprint, or with the voxels inside."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import LimnetError, SessionError
from limnet.image.io.objects import volume_of
from limnet.image.io.reading import place_of
from limnet.image.volume import Volume, checked_spacing


def fingerprint(array: NDArray[Any]) -> str:
    """Sha256 of dtype, shape and voxels, as hex."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    for part in array:  # slice by slice: a view need not be contiguous
        digest.update(part.tobytes())
    return digest.hexdigest()


def describe(volume: Volume) -> dict[str, Any]:
    """JSON description of a volume, with its path and how it was read from there if it has one."""
    return {
        "path": None if volume.source is None else str(Path(volume.source).absolute()),
        **asdict(volume.selection),
        "sha256": fingerprint(volume.array),
        "shape": list(volume.array.shape),
        "dtype": volume.array.dtype.str,
        "spacing": list(volume.spacing),
        "affine": volume.affine.tolist(),
        "convention": volume.convention,
        "modality": volume.modality,
    }


def packed_voxels(volume: Volume) -> bytes:
    """Compressed voxels of a volume without a file."""
    return zlib.compress(np.ascontiguousarray(volume.array).data, 1)


def rebuild(about: dict[str, Any], voxels: bytes | None, session: Path, given: Volume | None) -> Volume:
    """The volume a session belongs to.

    Args:
        about: What `describe` gave.
        voxels: What `packed_voxels` gave, if it is in the file.
        session: The session file; a volume that moved together with it is found.
        given: Volume to use instead of the recorded place.

    Raises:
        SessionError: if it cannot be found, cannot be read, or is another one.
    """
    if given is not None:
        volume = given
    elif voxels is not None:
        return _embedded(about, voxels, session)
    else:
        volume = _read(about, session)
    if fingerprint(volume.array) != about["sha256"]:
        raise SessionError(
            f"{session} belongs to another volume: it was made on shape {tuple(about['shape'])}, {about['dtype']}, "
            f"sha256 {about['sha256'][:12]}; {volume.source or 'the given array'} has shape {volume.array.shape} "
            "and other voxels. Give the original volume: resume(path, volume=...)"
        )
    spacing, modality = checked_spacing(about["spacing"]), about["modality"]
    same = volume.spacing == spacing and volume.modality == modality
    return volume if same else replace(volume, spacing=spacing, modality=modality)


def _read(about: dict[str, Any], session: Path) -> Volume:
    place = place_of(about["path"], session.parent)
    if not place.exists():
        raise SessionError(
            f"the volume of {session} is not at {about['path']} any more, nor beside the session file: "
            "put it back, or tell where it is: resume(path, volume=...)"
        )
    try:
        return Volume.read(place, index=about["index"], series=about["series"], gaps=about.get("gaps", "refuse"))
    except LimnetError as error:
        raise SessionError(f"the volume of {session} cannot be read: {error}") from error


def _embedded(about: dict[str, Any], voxels: bytes, session: Path) -> Volume:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    data = zlib.decompressobj().decompress(voxels, size + 1)
    if dtype.kind not in "iuf" or len(data) != size:
        raise SessionError(f"{session} is damaged: its voxels do not fit shape {shape}. Use a copy, or start again")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    volume = Volume.from_array(
        array, affine=np.array(about["affine"]), convention=about["convention"], modality=about["modality"]
    )
    return replace(volume, spacing=checked_spacing(about["spacing"]))


def as_given(volume: Any, about: dict[str, Any]) -> Volume | None:
    """What a user passed as `volume=` of resume: None, a Volume, a path, or an array."""
    if volume is None or isinstance(volume, Volume):
        return volume
    if isinstance(volume, (str, os.PathLike)):
        return Volume.read(volume, index=about["index"], series=about["series"], gaps=about.get("gaps", "refuse"))
    found = volume_of(volume, about["index"])
    if found is not None:  # an image with a grid of its own
        return found
    return Volume.from_array(volume, affine=np.array(about["affine"]), convention=about["convention"])
