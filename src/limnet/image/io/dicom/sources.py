"""The DICOM images that a volume was read from, as what is derived from them has to name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limnet.errors import InputError
from limnet.image.io.dicom.planes import ADVICE, Plane, numbers, planes_of, quiet, read_header, text
from limnet.image.io.masks import Segment
from limnet.image.io.reading import explained
from limnet.image.volume import DicomSlices, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_OTHER = "Save as .nii.gz, .nrrd or .mha"
_EMPTY = (  # has to be there, but may be empty; scanners and anonymisers leave some of them out
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """Headers of the images of a volume.

    `files` are full headers, without pixels, in slice order; `planes` and `numbers` have for each slice of the volume
    its plane and the number of its file, None where it was filled.
    """

    files: list[Dataset]
    planes: list[Plane | None]
    numbers: list[int | None]

    @property
    def first(self) -> Dataset:
        """Header of the first file: patient, study and series are the same in all."""
        return self.files[0]


def check_source(volume: Volume, path: Path) -> None:
    """Refuse with InputError a DICOM result for a volume that has no DICOM images to refer to."""
    if not isinstance(volume.header, DicomSlices):
        raise InputError(
            f"{path.name}: a DICOM segmentation refers to the DICOM images it was made on, but "
            f"{volume.source or 'the volume'} is not DICOM. {_OTHER}"
        )


def find_sources(volume: Volume, path: Path, masks: list[Segment]) -> Sources:
    """The headers of a volume's images, complete enough for objects derived from them.

    InputError for headers without position, orientation or frame of reference, or objects on filled slices;
    FileFormatError for an image that changed or vanished.
    """
    import pydicom

    check_source(volume, path)
    slices = volume.header.slices  # type: ignore[union-attr]
    on_filled = [i for i in volume.filled if any(segment.mask[i].any() for segment in masks)]
    if on_filled:
        raise InputError(
            f"{path.name}: slices {on_filled[:5]}{' ...' if len(on_filled) > 5 else ''} were filled by interpolation, "
            f"there are no DICOM images that a segmentation of them could refer to. {_OTHER}"
        )
    files: list[Dataset] = []
    frames: list[list[Plane]] = []
    for file in volume.files:
        with explained(file, ADVICE), quiet():
            full = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            header = read_header(file)
            if header is None:
                raise ValueError("it is no image any more")
            planes = planes_of(file, header)
        files.append(full)
        frames.append(planes)
    found = [None if place is None else frames[place[0]][place[1]] for place in slices]
    if any(plane is not None and "ImagePositionPatient" not in plane.header for plane in found):
        raise InputError(f"{path.name}: the images of {volume.source} have no position in the patient. {_OTHER}")
    for number, header in enumerate(files):
        shown = next((frames[f][i] for f, i in filter(None, slices) if f == number), frames[number][0])
        _completed(header, shown, volume, path)
    return Sources(files, found, [None if place is None else place[0] for place in slices])


def _completed(header: Dataset, plane: Plane, volume: Volume, path: Path) -> None:
    """Fill in what may be empty; refuse what may not."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        if not text(header, keyword):
            raise InputError(
                f"{path.name}: the images of {volume.source} lack {keyword}, without which nothing can refer to them. "
                f"{_OTHER}"
            )
    for keyword in _EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    if "PerFrameFunctionalGroupsSequence" in header:
        _shared(header, plane)
        return
    steps = numbers(header, "PixelSpacing", 2)
    if steps is None or steps.min() <= 0:
        header.PixelSpacing = [float(f"{step:.9g}") for step in plane.spacing or (1.0, 1.0)]
    if not header.get("SliceThickness"):
        header.SliceThickness = float(f"{volume.spacing[0]:.9g}")


def _shared(header: Dataset, plane: Plane) -> None:
    """Say once what highdicom looks for among the groups that all frames share, not frame by frame."""
    from pydicom.dataset import Dataset

    if not header.get("SharedFunctionalGroupsSequence"):
        header.SharedFunctionalGroupsSequence = [Dataset()]
    shared = header.SharedFunctionalGroupsSequence[0]
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = plane.header.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = plane.header.PixelSpacing, plane.header.get("SliceThickness")
    if "PlaneOrientationSequence" not in shared:
        shared.PlaneOrientationSequence = [orientation]
    if "PixelMeasuresSequence" not in shared:
        shared.PixelMeasuresSequence = [measures]


def new_series(source: Dataset) -> int:
    """A series number for what is derived from a series: far from those of the scanner."""
    number = numbers(source, "SeriesNumber", 1)
    return 1000 + (0 if number is None else int(number[0]) % 1_000_000)
