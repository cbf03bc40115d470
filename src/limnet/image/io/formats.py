"""The table from suffix to reader and writer, and what to do with a path that fits none."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError, LimnetError, MissingFileError, SaveError
from limnet.image.io.atomic import atomic_write, check_target
from limnet.image.io.itk import read_itk, write_itk
from limnet.image.io.nifti import read_nibabel, write_mgh, write_nifti
from limnet.image.io.numpy_files import load_npz, read_npy, read_npz, write_npy, write_npz
from limnet.image.io.pictures import (
    FRAME_SUFFIXES,
    PICTURES,
    VIDEOS,
    read_frames,
    read_picture_volume,
    read_video,
    visible,
    write_png,
    write_tiff,
)
from limnet.image.io.reading import SeveralError, explained, first_few, is_dicom
from limnet.image.volume import Selection, Volume

READERS: dict[str, Callable[[Path, int | None], Volume]] = {
    **dict.fromkeys((".nii", ".nii.gz"), read_nibabel),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), read_itk),
    ".npy": read_npy,
    ".npz": read_npz,
    **dict.fromkeys((".hdr", ".img", ".mgh", ".mgz", ".mnc"), read_nibabel),
    **dict.fromkeys(PICTURES, read_picture_volume),
    **dict.fromkeys(VIDEOS, read_video),
}
_DICOM = ".dcm"
OBJECTS = (_DICOM, ".rtstruct.dcm")
"""Formats that hold names and whole objects, which may overlap: DICOM SEG and RTSTRUCT."""
WRITERS: dict[str, Callable[[Volume, NDArray[Any], Path], None]] = {
    **dict.fromkeys((".nii", ".nii.gz"), write_nifti),
    **dict.fromkeys((".nrrd", ".mha"), write_itk),
    ".npy": write_npy,
    ".npz": write_npz,
    **dict.fromkeys((".mgh", ".mgz"), write_mgh),
    ".png": write_png,
    **dict.fromkeys((".tif", ".tiff"), write_tiff),
}
_UNREADABLE = (
    "what was written does not read back as it should; the disk may be full or broken. Nothing was changed; a file "
    "that was there before is intact"
)


def known_suffix(path: Path, table: Iterable[str]) -> str | None:
    """The longest suffix of a table that the file name ends with, whatever its case."""
    name = path.name.lower()
    return max((s for s in table if name.endswith(s) and name != s), key=len, default=None)


def read_volume(path: Path, selection: Selection = Selection()) -> Volume:  # noqa: B008 (it never changes)
    """Read a file or folder; see `Volume.read`."""
    if not path.exists():
        raise MissingFileError(f"{path} does not exist{_similar(path)}")
    with explained(path):
        return _read_folder(path, selection) if path.is_dir() else _read_file(path, selection)


def read_single(path: Path, index: int | None = None) -> Volume:
    """`Volume.read` where nobody is asked: InputError with another advice for a file of several volumes."""
    try:
        return Volume.read(path, index)
    except SeveralError as error:
        raise InputError(f"{error.found}, one is expected. Save that one as a file of its own") from error


def _read_file(path: Path, selection: Selection) -> Volume:
    if path.name.startswith("._"):
        raise FileFormatError(
            f"{path} is a macOS side file without image data. Give the file without the leading '._': {path.name[2:]}"
        )
    suffix = known_suffix(path, READERS)
    if path.suffix.lower() == _DICOM or (suffix is None and is_dicom(path)):
        from limnet.image.io.dicom.series import read_dicom_file

        return read_dicom_file(path, selection)
    if suffix is None:
        raise InputError(
            f"{path.name} has no suffix that can be read. Allowed: {', '.join([*READERS, _DICOM])}, a folder with a "
            "DICOM series, or a folder of PNG or JPEG frames"
        )
    if selection.series is not None:
        raise InputError(f"series={selection.series!r} chooses in a DICOM folder, but {path} is a file. Leave it out")
    return READERS[suffix](path, selection.index)


def check_output(path: Path, source: Path | None = None) -> None:
    """Refuse, before it is computed, a file for a mask of the image in `source`.

    InputError for the image itself, or no suffix that can be written; SaveError where nothing can be written.
    """
    check_target(path)
    if known_suffix(path, [*WRITERS, *OBJECTS]) is None:
        allowed = ", ".join([*WRITERS, *OBJECTS])
        raise InputError(f"{path.name!r} has no suffix that can be written. Allowed: {allowed}")
    if source is None or not path.exists() or not source.exists():
        return
    readable = known_suffix(path, READERS) is not None or path.suffix.lower() == _DICOM
    within = source.is_dir() and path.resolve().parent == source.resolve() and readable
    if within or path.samefile(source):
        raise InputError(f"{path} is {'part of ' * within}the image itself, which would be lost. Give another name")


def check_output_for(volume: Volume, path: Path) -> None:
    """As `check_output`; also a DICOM file of a volume that is not from DICOM, and a file that the image is made of."""
    check_output(path, volume.source)
    if path.exists() and any(file.exists() and path.samefile(file) for file in volume.files):
        raise InputError(f"{path} is part of the image itself, which would be lost. Give another name")
    if known_suffix(path, OBJECTS) is not None:
        from limnet.image.io.dicom.seg import check_seg, check_source

        (check_seg if known_suffix(path, OBJECTS) == _DICOM else check_source)(volume, path)


def write_labels(volume: Volume, labels: NDArray[Any], path: Path) -> Path:
    """Write (D, H, W) labels on the volume's grid, atomically, and read them back; see `Volume.write_mask`."""
    check_output_for(volume, path)
    if known_suffix(path, OBJECTS) is not None:
        from limnet.image.io.masks import Maker, Segment, write_segments

        numbers = [int(number) for number in np.unique(labels) if number != 0] or [1]
        return write_segments(volume, [Segment(n, f"label {n}", labels == n) for n in numbers], path, Maker())
    suffix = known_suffix(path, WRITERS) or ""

    def check(written: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a doubtful grid was told of when the image was read
                found = (
                    load_npz(written, "label")["label"] if suffix == ".npz" else READERS[suffix](written, None).array
                )
        except LimnetError as error:
            raise SaveError(f"could not save {path}: {_UNREADABLE} ({error.__cause__ or error})") from error
        if not np.array_equal(found, labels):
            raise SaveError(f"could not save {path}: {_UNREADABLE}")

    return atomic_write(path, lambda temporary: WRITERS[suffix](volume, labels, temporary), check)


def _read_folder(folder: Path, selection: Selection) -> Volume:
    try:
        names = visible(folder)
    except OSError as error:
        raise FileFormatError(f"folder {folder} could not be listed: {error}") from error
    frames = [p for p in names if p.suffix.lower() in FRAME_SUFFIXES and p.is_file()]
    if frames and len(frames) == len(names) and selection.series is None:
        return read_frames(folder, selection.index)
    from limnet.image.io.dicom.series import find_series, read_series

    found = find_series(folder)
    if found:
        return read_series(folder, found, selection)
    inside = [p.name for p in names if p not in frames and known_suffix(p, READERS)]
    if frames and selection.series is None:
        if inside:
            warnings.warn(f"{folder} is read as its {len(frames)} pictures; other images in it: {first_few(inside)}")
        return read_frames(folder, selection.index)
    if frames:
        raise InputError(
            f"series={selection.series!r} chooses in a DICOM folder, but {folder} holds pictures. Leave it out"
        )
    expected = "Expected the files of a DICOM series, or PNG or JPEG frames, directly in the folder"
    inside = inside or [p.name for p in names if p.is_dir()]
    hint = f". It holds {first_few(inside)}: give the one with images"
    raise MissingFileError(
        f"folder {folder} has no images ({len(names)} other entries). {expected}{hint if inside else ''}"
    )


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}. Check the path"
    close = difflib.get_close_matches(path.name, [p.name for p in visible(path.parent)], n=3)
    return f". Did you mean {' or '.join(close)}?" if close else ". Check the path"
