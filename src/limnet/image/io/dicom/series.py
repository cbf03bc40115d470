"""DICOM series in a folder or a file set, and single DICOM files, as volumes; world axes are LPS."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.io.dicom.pixels import read_pixels
from limnet.image.io.dicom.planes import Plane, is_tiled, planes_of, quiet, read_header, text
from limnet.image.io.dicom.stacks import Stack, find_stacks, make_grid, resampled
from limnet.image.io.pictures import visible
from limnet.image.io.reading import SeveralError, chosen, explained, first_few, is_dicom
from limnet.image.volume import DicomSlices, Selection, Volume

_SLICED = {"CT", "MR", "PT"}  # where a single image is one slice of a series


@dataclass(frozen=True)
class Series:
    """One series: its UID, number, description, modality and the images of its files."""

    uid: str
    number: str
    description: str
    modality: str
    planes: tuple[Plane, ...] = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, as found."""
        return tuple(dict.fromkeys(plane.file for plane in self.planes))

    def __str__(self) -> str:
        """One line for a person who has to choose."""
        about = f"{self.modality or '?'}, number {self.number or '?'}, {self.description!r}, {len(self.files)} files"
        return f"{self.uid}: {about}"


def find_series(folder: Path) -> list[Series]:
    """Image series directly in a folder, by UID; other files and macOS side files are passed over.

    A folder that holds no image but a DICOMDIR is opened through that file set. A DICOM file that cannot be read raises
    FileFormatError: leaving it out would silently shorten a volume.
    """
    files = [p for p in visible(folder) if p.is_file()]
    found = _series(p for p in files if p.name.upper() != "DICOMDIR")
    directory = next((p for p in files if p.name.upper() == "DICOMDIR"), None)
    return found if found or directory is None else find_listed(directory)


def find_listed(directory: Path) -> list[Series]:
    """Image series that a DICOMDIR lists; raises MissingFileError for files that it names and that are not there."""
    import pydicom

    with explained(directory, "Give the folder of one series"), quiet():
        records = pydicom.dcmread(directory, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        names = [r.ReferencedFileID for r in records if r.get("DirectoryRecordType") == "IMAGE"]
    files, missing = [], []
    for name in names:
        parts = [name] if isinstance(name, str) else list(name)
        place = _place(directory.parent, [str(part) for part in parts])
        if place is None:
            missing.append("/".join(parts))
        else:
            files.append(place)
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(names)} images that {directory} lists are not there: {first_few(missing)}. "
            "Copy the whole medium, or give the folder of one series"
        )
    return _series(files)


def read_series(folder: Path, found: list[Series], selection: Selection) -> Volume:
    """Read one volume of one series as (D, H, W), sorted by position along the slice normal, each slice rescaled.

    `found` is what `find_series` found, not empty. Warns of slices left out or filled, and of an unknown spacing or
    position.
    """
    picked = _pick(folder, found, selection.series)
    with quiet():
        stacks, notes = find_stacks(folder, _one_kind_of_file(folder, picked))
        stack = stacks[chosen(folder, len(stacks), selection.index, _several(stacks))]
    for note in [*notes, *_unknown(stack)]:  # also where what is left makes no grid
        warnings.warn(f"{folder}: {note}")
    with quiet():
        grid = make_grid(folder, stack.planes, selection.gaps == "resample")
        array = resampled(read_pixels(stack.planes), grid)
    if grid.filled:
        shown = f"{first_few(grid.filled)} (Volume.filled)"
        warnings.warn(f"{folder}: {len(grid.filled)} of {len(array)} slices are filled by interpolation: {shown}")
    volume = Volume.from_array(
        array, affine=grid.affine, convention="LPS", modality=picked.modality or None, source=folder
    )
    files = tuple(dict.fromkeys(plane.file for plane in stack.planes))
    numbers = {file: number for number, file in enumerate(files)}
    planes = [stack.planes[int(place)] if place == int(place) else None for place in grid.places]
    header = DicomSlices(tuple(None if p is None else (numbers[p.file], p.frame) for p in planes))
    return replace(volume, files=files, filled=grid.filled, header=header)


def read_dicom_file(path: Path, selection: Selection) -> Volume:
    """Read one DICOM file: a multi-frame object, a single image as a volume of one slice, or a DICOMDIR."""
    if path.name.upper() == "DICOMDIR":
        return read_series(path, find_listed(path), selection)
    if selection.series is not None:
        raise InputError(f"series={selection.series!r} chooses in a DICOM folder, but {path} is a file. Leave it out")
    found = _series([path])
    if not found:
        raise InputError(
            f"{path} is a DICOM file without an image that could be segmented ({_what(path)}). Give a series of "
            "images; a segmentation or structure set can be the start: case.set_mask(path), on the command line --start"
        )
    volume = read_series(path, found, selection)
    if (
        volume.shape[0] == 1
        and volume.modality in _SLICED
        and any(p != path and p.is_file() and is_dicom(p) for p in visible(path.parent))
    ):
        warnings.warn(f"{path} is read as a volume of one slice. For the whole series give the folder: {path.parent}")
    return volume


def _series(paths: Iterable[Path]) -> list[Series]:
    headers, damaged, total = [], [], 0
    for path in paths:
        sure = path.suffix.lower() == ".dcm" or is_dicom(path)
        if not sure and not _may_be_dicom(path):
            continue
        total += sure
        try:
            header = read_header(path)
        except FileFormatError as error:
            if sure:
                damaged.append(error)
            continue
        if header is not None:
            headers.append((path, header))
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        more = " ..." if len(damaged) > 3 else ""
        raise FileFormatError(f"{len(damaged)} of {total} DICOM files: {'; '.join(map(str, damaged[:3]))}{more}")
    slides = [path for path, header in headers if is_tiled(header)]
    if slides and len(slides) < len(headers):
        warnings.warn(
            f"{', '.join(map(str, slides[:3]))}{' ...' if len(slides) > 3 else ''} left out: tiles of a whole-slide "
            "image, not slices of a volume"
        )
        headers = [(path, header) for path, header in headers if path not in slides]
    series: dict[str, list[Plane]] = {}
    for path, header in headers:
        series.setdefault(text(header, "SeriesInstanceUID"), []).extend(planes_of(path, header))
    return [
        Series(
            uid,
            number=text(planes[0].of, "SeriesNumber"),
            description=text(planes[0].of, "SeriesDescription"),
            modality=text(planes[0].of, "Modality"),
            planes=tuple(planes),
        )
        for uid, planes in sorted(series.items())
    ]


def _may_be_dicom(path: Path) -> bool:
    """Whether a file without the DICOM mark begins with an element of group 2 or 8, as old files do."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError:
        return False
    return len(start) == 8 and start[:2] in (b"\x08\x00", b"\x02\x00") and start[3] == 0


def _place(folder: Path, parts: list[str]) -> Path | None:
    """A file of a file set, whatever became of the case of its name or an ISO version number."""
    for name in parts:
        options = [name, name.lower(), name.upper(), f"{name};1", f"{name.lower()};1"]
        folder = next((p for o in options if (p := folder / o).exists()), folder / name)
    return folder if folder.is_file() else None


def _pick(folder: Path, found: list[Series], series: str | int | None) -> Series:
    listing = "; ".join(str(s) for s in found)
    if series is None:
        if len(found) == 1:
            return found[0]
        raise SeveralError(
            f"folder {folder} holds {len(found)} DICOM series",
            f"series= its UID, series number or description (on the command line --series). Found: {listing}",
        )
    wanted = str(series).strip().lower()
    for key in ("uid", "number", "description"):
        matches = [s for s in found if getattr(s, key).strip().lower() == wanted]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"series={series!r} fits {len(matches)} series of {folder}. Choose by UID. Found: {listing}"
            )
    raise InputError(f"series={series!r} fits no series of {folder}. Found: {listing}")


def _one_kind_of_file(folder: Path, series: Series) -> list[Plane]:
    """The planes of a series; films of which each is a volume of its own are refused."""
    films = {plane.file for plane in series.planes if plane.frame > 0 and plane.origin is None}
    if films and len(series.files) > 1:
        raise InputError(
            f"the series in {folder} has {len(series.files)} multi-frame files without positions, each a film of its "
            f"own: give one of the files itself, such as {sorted(films)[0]}"
        )
    return list(series.planes)


def _several(stacks: list[Stack]) -> str:
    listing = "; ".join(f"{i}: {stack}" for i, stack in enumerate(stacks[:20]))
    return f"repetitions or stacks ({listing}{' ...' if len(stacks) > 20 else ''})"


def _unknown(stack: Stack) -> list[str]:
    """What the headers do not say."""
    first, notes = stack.planes[0], []
    if first.spacing is None:
        notes.append(
            "the size of a pixel is unknown, taken as 1 mm: volumes in ml are wrong. Pass spacing= if you know it"
        )
    if first.origin is not None and "ImagePositionPatient" not in first.header:
        notes.append("slices have no ImagePositionPatient: placed by SliceLocation alone, check which end is which")
    if first.origin is None and len(stack.planes) > 1 and stack.planes[-1].frame == 0:
        notes.append(
            "slices have no position: taken in order of their instance numbers, "
            f"{np.round(first.thickness or 1.0, 3)} mm apart"
        )
    return notes


def _what(path: Path) -> str:
    import pydicom

    with quiet():
        header = pydicom.dcmread(path, specific_tags=["SOPClassUID", "Modality"], force=True)
        kind = header.get("SOPClassUID")
        return kind.name if kind else f"modality {header.get('Modality')}"
