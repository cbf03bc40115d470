"""Objects with names in files: DICOM SEG and RTSTRUCT, written and read, and label maps with names beside them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet._version import __version__
from limnet.errors import InputError, SaveError
from limnet.image.io.atomic import atomic_write
from limnet.image.io.reading import explained
from limnet.image.volume import Volume

SEG, RTSTRUCT = ".dcm", ".rtstruct.dcm"
SUFFIXES = (SEG, RTSTRUCT)  # formats that hold names and whole objects, which may overlap
_UNREADABLE = "what was written does not read back as it should. Nothing was changed; a file that was there is intact"


class Segment(NamedTuple):
    """An object to write or that was read.

    Attributes:
        number: its label, from 1.
        name: what the user calls it.
        mask: bool (D, H, W) on the grid of the volume.
    """

    number: int
    name: str
    mask: NDArray[np.bool_]


class Maker(NamedTuple):
    """What made the masks, as the files say: name of the model, version of the program, a number for the weights."""

    model: str = "limnet"
    version: str = f"limnet {__version__}"
    serial: str = "0"


def object_suffix(path: Path) -> str | None:
    """The one of `SUFFIXES` that a file name ends with, None for others."""
    name = path.name.lower()
    return max((s for s in SUFFIXES if name.endswith(s) and name != s), key=len, default=None)


def check_objects(volume: Volume, path: Path) -> None:
    """Refuse a file of objects that cannot be made for a volume, before anything is computed.

    Raises:
        InputError: the volume is not from DICOM, or a package is missing.
    """
    from limnet.image.io.dicom.seg import check_seg
    from limnet.image.io.dicom.sources import check_source

    (check_seg if object_suffix(path) == SEG else check_source)(volume, path)


def write_segments(volume: Volume, segments: list[Segment], path: Path, maker: Maker) -> Path:
    """Write objects as DICOM SEG (.dcm) or RTSTRUCT (.rtstruct.dcm), atomically, and read them back.

    Args:
        volume: read from DICOM; the file refers to its images.
        segments: objects, which may overlap.
        path: file to write.
        maker: what made them.

    Returns:
        The path written.

    Raises:
        InputError: the volume's images lack what the file has to refer to.
        SaveError: the file could not be written; what was there before is intact.
    """
    from limnet.image.io.dicom.rtstruct import write_rtstruct
    from limnet.image.io.dicom.seg import write_seg
    from limnet.image.io.dicom.sources import find_sources

    check_objects(volume, path)
    sources = find_sources(volume, path, segments)
    write = write_seg if object_suffix(path) == SEG else write_rtstruct

    def check(written: Path) -> None:
        found = read_dicom_segments(written, volume) or []
        if len(found) != len(segments) or any(
            not np.array_equal(one.mask, two.mask) for one, two in zip(found, segments, strict=True)
        ):
            raise SaveError(f"could not save {path}: {_UNREADABLE}")

    return atomic_write(path, lambda temporary: write(sources, segments, temporary, maker), check)


def read_segments(path: Path, volume: Volume) -> list[Segment]:
    """All objects in a file at once; see `iter_segments`."""
    return list(iter_segments(path, volume))


def iter_segments(path: Path, volume: Volume) -> Iterator[Segment]:
    """The objects in a file, on the grid of a volume: DICOM SEG, RTSTRUCT, or a label map of any format.

    Masks of a label map are made one at a time: a map of a hundred organs would fill the memory.

    Names of a label map come from the JSON file that `case.save_labels` writes beside it.

    Raises:
        MissingFileError: nothing there.
        FileFormatError: damaged, or no labels.
        InputError: another grid.
    """
    from limnet.image.io.masks import read_labels

    found = read_dicom_segments(path, volume)
    if found is not None:
        yield from found
        return
    labels, names = read_labels(path, volume), _names(path)
    for number in (int(number) for number in np.unique(labels) if number != 0):
        yield Segment(number, names.get(number, f"label {number}"), labels == number)


def read_dicom_segments(path: Path, volume: Volume) -> list[Segment] | None:
    """The objects in a DICOM SEG or RTSTRUCT, on the grid of a volume; None for every other file."""
    from limnet.image.io.dicom.planes import ADVICE, is_dicom, quiet

    if not path.is_file() or not is_dicom(path):
        return None
    import pydicom

    from limnet.image.io.dicom.rtstruct import RTSTRUCT_CLASS, read_rtstruct
    from limnet.image.io.dicom.seg import SEG_CLASSES, read_seg

    with explained(path, ADVICE), quiet():
        kind = str(pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).get("SOPClassUID"))
        if kind != RTSTRUCT_CLASS and kind not in SEG_CLASSES:
            return None
        header = pydicom.dcmread(path)
        _check_reference(path, header, volume)
        return (read_rtstruct if kind == RTSTRUCT_CLASS else read_seg)(path, header, volume)


def _check_reference(path: Path, header: Any, volume: Volume) -> None:
    """Warn of objects that refer to another frame of reference than the images of the volume."""
    import pydicom

    if not volume.files:
        return
    ours = pydicom.dcmread(volume.files[0], specific_tags=["FrameOfReferenceUID"], stop_before_pixels=True)
    place = next(iter(header.get("ReferencedFrameOfReferenceSequence") or []), header)
    theirs, known = place.get("FrameOfReferenceUID"), ours.get("FrameOfReferenceUID")
    if theirs and known and theirs != known:
        warnings.warn(
            f"{path} refers to another frame of reference than the image: it may be of another patient or examination. "
            "Look whether it fits"
        )


def _names(path: Path) -> dict[int, str]:
    """Label -> name from the JSON file beside a label map; empty where there is none of ours."""
    base = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
    try:
        content = json.loads(path.with_name(f"{base}.json").read_text(encoding="utf-8"))
        return {int(number): str(name) for number, name in content["labels"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def check_choice(segments: list[Segment], label: int | None, what: str) -> NDArray[np.bool_]:
    """The mask of one object: the one with the label, or the only one there is.

    Raises:
        InputError: several and no label, or a label that is not there.
    """
    listing = ", ".join(f"{segment.number} {segment.name!r}" for segment in segments) or "none"
    if label is None:
        if len(segments) != 1:
            first = f": say which one is meant, label={segments[0].number}" if segments else ""
            raise InputError(f"{what} holds {len(segments)} objects ({listing}){first}")
        return segments[0].mask
    found = next((segment.mask for segment in segments if segment.number == label), None)
    if found is None:
        raise InputError(f"{what} has no label {label}: it has {listing}")
    return found
