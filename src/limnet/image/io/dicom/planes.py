"""DICOM files as planes: one for each image of a file, with a flat header, whatever kind of object holds it.

A classic file is one plane. Frames of multi-frame objects are described by functional groups (enhanced CT, MR, US, OCT,
tomosynthesis: PS3.3 C.7.6.16), by vectors (nuclear medicine, dose) or not at all (cine); here each frame gets the
header that a classic file of it would have, so that everything else knows one kind of image only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.image.io.reading import explained

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NOT_IMAGES = {"SEG", "RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "REG", "DOC"}  # modalities without slices to segment
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MARKS = (  # differ between volumes that lie at the same place; what is measured first, then order and numbering
    "ImageType", "FrameType", "ComplexImageComponent", "EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime",
    "InversionTimes", "FlipAngle", "DiffusionBValue", "DiffusionGradientOrientation", "KVP", "ConvolutionKernel",
    "StackID", "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "EnergyWindowVector",
    "TimeSlotVector", "TemporalPositionIdentifier", "TemporalPositionIndex", "FrameAcquisitionNumber",
    "AcquisitionNumber",
)  # fmt: skip
TIMES = (  # differ from slice to slice as well: only their order at one place counts
    "TriggerTime", "TemporalPositionTimeOffset", "FrameReferenceTime", "FrameReferenceDateTime",
    "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime",
)  # fmt: skip
_PALETTES = tuple(
    f"{color}PaletteColorLookupTable{part}" for color in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
)
_READ = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet", "Modality", "SeriesNumber",
    "SeriesDescription", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "DoseGridScaling",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "PixelSpacing", "ImagerPixelSpacing",
    "NominalScannedPixelSpacing", "SequenceOfUltrasoundRegions", "SliceThickness", "SpacingBetweenSlices",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "TotalPixelMatrixColumns",
    "GridFrameOffsetVector", "DetectorInformationSequence", "SliceVector", "AcquisitionDate",
    *_PALETTES, *MARKS, *TIMES, *PIXELS,
)  # fmt: skip
ADVICE = "Copy it again or take it out"
DEFLATED = "1.2.840.10008.1.2.1.99"
_SMALL, _PACKED = 1 << 28, 2000  # bytes that are no danger; black frames are packed more tightly than any real ones
_UNREAD = 1 << 16  # bytes; larger values are left in the file until they are needed


@dataclass(frozen=True, eq=False)
class Plane:
    """Image number `frame` (from 0) of a DICOM file.

    `header` is what the file says of this one image, functional groups merged in; `of` is the header of the whole file,
    which knows where the pixels lie.
    """

    file: Path
    frame: int
    header: Dataset = field(repr=False)
    of: Dataset = field(repr=False)

    def __str__(self) -> str:
        """Name for messages."""
        return f"{self.file.name} frame {self.frame + 1}" if count_frames(self.of) > 1 else self.file.name

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.header.Rows), int(self.header.Columns)

    @cached_property
    def spacing(self) -> tuple[float, float] | None:
        """mm between rows and between columns, None where the file does not say."""
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            steps = numbers(self.header, keyword, 2)
            if steps is not None and steps.min() > 0:
                return float(steps[0]), float(steps[1])
        return _ultrasound_spacing(self.header)

    @cached_property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3), columns: unit vectors along a row, along a column, and the normal; the identity where unknown."""
        cosines = numbers(self.header, "ImageOrientationPatient", 6)
        if cosines is None:
            return np.eye(3)
        along, down = cosines[:3], cosines[3:]
        normal = np.cross(along, down)
        if np.linalg.norm(normal) < 0.9:  # 1 for unit vectors at right angles
            raise FileFormatError(
                f"{self.file}: ImageOrientationPatient {cosines.tolist()} is no pair of unit vectors at right angles. "
                "The header is damaged: export the series again"
            )
        axes = np.stack([along, down, normal], axis=1)
        return np.asarray(axes / np.linalg.norm(axes, axis=0))

    @cached_property
    def origin(self) -> NDArray[np.float64] | None:
        """Centre of the first voxel in mm (LPS), None where the file does not say."""
        position = numbers(self.header, "ImagePositionPatient", 3)
        if position is None and (location := numbers(self.header, "SliceLocation", 1)) is not None:
            return self.axes[:, 2] * location[0]
        return position

    @property
    def depth(self) -> float:
        """mm along the normal; 0 where the position is unknown."""
        return 0.0 if self.origin is None else float(self.origin @ self.axes[:, 2])

    @cached_property
    def instance(self) -> int:
        """InstanceNumber, 0 where there is none."""
        number = numbers(self.header, "InstanceNumber", 1)
        return 0 if number is None else int(number[0])

    @property
    def thickness(self) -> float | None:
        """mm to the next slice as far as one plane can tell, None where it cannot."""
        for keyword in ("SpacingBetweenSlices", "SliceThickness"):
            step = numbers(self.header, keyword, 1)
            if step is not None and step[0] != 0:
                return abs(float(step[0]))
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps pydicom from warning of values that are not quite to the standard, which most files have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        yield


def read_header(path: Path) -> Dataset | None:
    """What limnet needs of a DICOM file, pixels left in the file; None for a file that is no image.

    Raises FileFormatError for a damaged file, or pixels cut short.
    """
    import pydicom

    with explained(path, ADVICE), quiet():
        header = pydicom.dcmread(path, specific_tags=_tags(), defer_size=_UNREAD, force=True)
        kind = header.get("SOPClassUID")
        pixels = next((k for k in PIXELS if k in header), None)
        if header.get("Modality") in NOT_IMAGES:
            return None
        if pixels is None:
            known = kind is not None and (kind.name != str(kind) or (kind.is_private and "SeriesInstanceUID" in header))
            if known and "Image Storage" not in kind.name:
                return None  # damage makes of standard classes unknown ones
            raise ValueError("the header ends before the pixels")
        if int(header.Rows) < 1 or int(header.Columns) < 1 or count_frames(header) < 1:
            raise ValueError("an image without voxels")
        _check_pixels(path, header, header.get_item(pixels, keep_deferred=True))
    return header


def planes_of(path: Path, header: Dataset) -> list[Plane]:
    """The images of a file, in file order; InputError for tiles of a whole-slide image, FileFormatError for damage."""
    count = count_frames(header)
    with explained(path, ADVICE), quiet():
        if is_tiled(header):
            raise InputError(
                f"{path} holds {count} tiles of a whole-slide image, not slices of a volume. Export the region of "
                "interest as one picture (PNG, TIFF) and give that"
            )
        if "PerFrameFunctionalGroupsSequence" in header or "SharedFunctionalGroupsSequence" in header:
            groups = header.get("PerFrameFunctionalGroupsSequence") or []
            if count > 1 and len(groups) != count:
                raise ValueError(f"{count} frames, but functional groups for {len(groups)}")
            shared = header.get("SharedFunctionalGroupsSequence") or []
            flat = [_merged(header, [*shared[:1], *groups[i : i + 1]]) for i in range(count)]
        elif count > 1:
            flat = _by_vectors(header, count)
        else:
            flat = [header]
    return [Plane(path, i, part, header) for i, part in enumerate(flat)]


def is_tiled(header: Dataset) -> bool:
    """Whether the frames of a file are tiles of a whole-slide image."""
    return "TotalPixelMatrixColumns" in header and count_frames(header) > 1


def count_frames(header: Dataset) -> int:
    """NumberOfFrames, 1 where there is none."""
    number = numbers(header, "NumberOfFrames", 1)
    return 1 if number is None else int(number[0])


def numbers(header: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """`count` finite numbers of an element, None where it is missing, empty or something else."""
    try:
        value = header.get(keyword)
        if value is None:
            return None
        found = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def text(header: Dataset, keyword: str) -> str:
    """An element as text without padding, empty where it is missing."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _merged(header: Dataset, groups: list[Dataset]) -> Dataset:
    """The header with the elements of all functional groups in it, later ones over earlier ones."""
    from pydicom.dataset import Dataset

    flat = Dataset()
    flat.update(_raw(header))
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value:
                flat.update(_raw(element.value[0]))
    for sequence, keyword in (
        ("DiffusionGradientDirectionSequence", "DiffusionGradientOrientation"),
        ("PlaneOrientationVolumeSequence", "ImageOrientationVolume"),
    ):
        if sequence in flat and flat[sequence].value and keyword in flat[sequence].value[0]:
            setattr(flat, keyword, getattr(flat[sequence].value[0], keyword))
    for here, there in (
        ("ImagePositionVolume", "ImagePositionPatient"),
        ("ImageOrientationVolume", "ImageOrientationPatient"),
    ):
        if here in flat and there not in flat:
            setattr(flat, there, getattr(flat, here))
    return flat


def _raw(header: Dataset) -> dict[Any, Any]:
    skipped = {"PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", *PIXELS}
    from pydicom.datadict import tag_for_keyword

    tags = {tag_for_keyword(keyword) for keyword in skipped}
    return {tag: header.get_item(tag) for tag in header.keys() if tag not in tags}  # noqa: SIM118


def _by_vectors(header: Dataset, count: int) -> list[Dataset]:
    """Headers of frames that vectors place: nuclear medicine (PS3.3 C.8.4.8) and dose (C.8.8.3); else unplaced."""
    frames = [_merged(header, []) for _ in range(count)]
    detectors = header.get("DetectorInformationSequence")
    place = detectors[0] if detectors else header
    origin, cosines = numbers(place, "ImagePositionPatient", 3), numbers(place, "ImageOrientationPatient", 6)
    offsets: NDArray[np.float64] | None = None
    if "GridFrameOffsetVector" in header:
        offsets = numbers(header, "GridFrameOffsetVector", count)
        offsets = None if offsets is None else offsets - offsets[0]
    elif detectors and "TOMO" in text(header, "ImageType"):
        step = numbers(header, "SpacingBetweenSlices", 1)
        order = numbers(header, "SliceVector", count)
        if step is not None:
            offsets = step[0] * (np.arange(count) if order is None else order - 1)
    for i, frame in enumerate(frames):
        for keyword in ("EnergyWindowVector", "TimeSlotVector"):
            vector = numbers(header, keyword, count)
            if vector is not None:
                setattr(frame, keyword, int(vector[i]))
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"):
            if keyword in frame:
                delattr(frame, keyword)
        if origin is not None and cosines is not None and offsets is not None:
            normal = np.cross(cosines[:3], cosines[3:])
            frame.ImagePositionPatient = [float(v) for v in origin + normal * offsets[i]]
            frame.ImageOrientationPatient = cosines.tolist()
    return frames


def _ultrasound_spacing(header: Dataset) -> tuple[float, float] | None:
    """mm of a picture whose two-dimensional regions all have one scale in cm (PS3.3 C.8.5.5)."""
    scales = set()
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        if region.get("RegionSpatialFormat") == 1 and region.get("PhysicalUnitsXDirection") == 3:
            x, y = numbers(region, "PhysicalDeltaX", 1), numbers(region, "PhysicalDeltaY", 1)
            if x is not None and y is not None and x[0] and y[0]:
                scales.add((abs(float(y[0])) * 10, abs(float(x[0])) * 10))
    return scales.pop() if len(scales) == 1 else None


def _check_pixels(path: Path, header: Dataset, held: Any) -> None:
    """Refuse pixels that are cut short, before a plane is made or memory taken for any of them."""
    frames, size = count_frames(header), path.stat().st_size
    samples, bits = int(header.get("SamplesPerPixel") or 1), int(header.get("BitsAllocated") or 16)
    frame = int(header.Rows) * int(header.Columns) * samples * bits // 8
    if str(getattr(header.file_meta, "TransferSyntaxUID", "")) == DEFLATED:
        size *= _PACKED  # and the length counts unpacked bytes
    elif held.length == 0xFFFFFFFF:  # encapsulated
        if frames > size or frames * frame > max(_SMALL, size * _PACKED):
            raise ValueError(f"{size} bytes cannot hold {frames} frames of {frame} bytes")
        return
    elif held.value_tell + held.length > size:
        raise ValueError(f"{held.value_tell + held.length - size} bytes of the pixels are missing")
    if held.length < frames * frame:
        raise ValueError(f"{held.length} bytes of pixels, {frames} frames of {frame} bytes are needed")


@lru_cache(maxsize=1)
def _tags() -> list[Any]:
    """The elements of `_READ`, looked up once."""
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in _READ]
