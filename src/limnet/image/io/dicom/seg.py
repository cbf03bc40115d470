"""DICOM SEG: binary segmentations written by highdicom, and segmentations of any program read onto a volume's grid.

Also `Sources`: the DICOM images that a volume was read from, as what is derived from them has to name them.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.image.io.dicom.planes import ADVICE, Plane, numbers, planes_of, quiet, read_header, text
from limnet.image.io.masks import Maker, Segment
from limnet.image.io.reading import explained
from limnet.image.volume import DicomSlices, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

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


_ALIKE = 0.25  # voxels: what counts as the same place on the grid of the volume, as for masks of other formats
SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map segmentation
_CATEGORIES = {  # context group of segmentation property types -> their category, the narrower ones first
    7194: "MorphologicallyAbnormalStructure",
    7191: "Tissue",
    7192: "AnatomicalStructure",
    7197: "BodySubstance",
    7193: "PhysicalObject",
}
_SIDES = {"left": "Left", "right": "Right"}
_SYNONYMS = {  # everyday names of what the standard names otherwise
    "bone": "bonetissue",
    "muscle": "muscletissue",
    "fat": "adiposetissue",
    "smallbowel": "smallintestine",
    "largebowel": "largeintestine",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "metastasis": "neoplasmsecondary",
    "urinarybladder": "bladder",
    "adrenal": "adrenalgland",
    "oesophagus": "esophagus",
    "oedema": "edema",
    "haemorrhage": "hemorrhage",
    "ivc": "inferiorvenacava",
}


def check_seg(volume: Volume, path: Path) -> None:
    """Refuse with InputError, before anything is computed, a volume that is not from DICOM, or a missing highdicom."""
    if importlib.util.find_spec("highdicom") is None:
        raise InputError(f"{path.name}: DICOM SEG needs highdicom, which is not installed: pip install 'limnet[dicom]'")
    check_source(volume, path)
    frames = [place[1] for place in volume.header.slices if place is not None]  # type: ignore[union-attr]
    if len(volume.files) > 1 and max(frames, default=0) > 0:
        raise InputError(
            f"{path.name}: the volume comes from {len(volume.files)} multi-frame files, a DICOM SEG refers to one. "
            "Save as .rtstruct.dcm, .nii.gz, .nrrd or .mha"
        )


def write_seg(sources: Sources, segments: list[Segment], path: Path, maker: Maker) -> None:
    """Write objects as a binary DICOM SEG (PS3.3 A.51) that refers to the images of a volume; they may overlap."""
    import highdicom
    from pydicom.sr.codedict import codes

    with quiet():
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=maker.model[:64], family=codes.DCM.ArtificialIntelligence, version=maker.version[:64]
        )
        descriptions = [_description(number, segment, algorithm) for number, segment in enumerate(segments, start=1)]
        uid = highdicom.UID
        multi = "NumberOfFrames" in sources.first
        frames = _only_frames(sources) if multi else []
        names = ", ".join(segment.name for segment in segments)
        written = highdicom.seg.Segmentation(
            source_images=sources.files,
            pixel_array=_in_frames(sources, segments),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=uid(),
            series_number=new_series(sources.first),
            sop_instance_uid=uid(),
            instance_number=1,
            manufacturer="limnet",
            manufacturer_model_name=maker.model[:64],
            software_versions=maker.version[:64],
            device_serial_number=maker.serial[:64],
            series_description=f"limnet: {names}"[:64],
            content_label="SEGMENTATION",
            content_description=names[:64],
        )
        if multi:
            _name_frames(written, frames)
        written.save_as(path)


def read_seg(path: Path, header: Dataset, volume: Volume) -> list[Segment]:
    """The segments of a DICOM SEG on the grid of a volume; InputError for another grid, or pixels outside.

    Frames may cover a part of the volume and be stored in another order or turned; nothing is resampled.
    """
    with explained(path, ADVICE), quiet():
        stored = np.asarray(header.pixel_array)
        stored = stored.reshape(-1, *stored.shape[-2:])
        planes = planes_of(path, header)
        names = {int(s.SegmentNumber): text(s, "SegmentLabel") for s in header.SegmentSequence}
        kind, most = text(header, "SegmentationType"), float(header.get("MaximumFractionalValue") or 1)
        masks = {number: np.zeros(volume.shape, dtype=bool) for number in names if number > 0}
        if len(stored) != len(planes):
            raise ValueError(f"{len(planes)} frames are described, {len(stored)} are there")
        for plane, frame in zip(planes, stored, strict=True):
            if kind == "LABELMAP":
                parts = {int(n): frame == n for n in np.unique(frame) if n in masks}
            else:
                number = int(plane.header.ReferencedSegmentNumber)
                parts = {number: frame >= 0.5 * most if kind == "FRACTIONAL" else frame > 0}
            for number, part in parts.items():
                _put(path, plane, part, masks[number], volume)
    return [Segment(number, names[number] or f"segment {number}", mask) for number, mask in masks.items()]


def _description(number: int, segment: Segment, algorithm: Any) -> Any:
    import highdicom

    meaning = coded(segment.name)
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=meaning.category,
        segmented_property_type=meaning.type,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=highdicom.UID(),
        tracking_id=segment.name[:64],
        display_color=highdicom.color.CIELabColor.from_rgb(*color(number)),
    )
    if meaning.side is not None:
        side = highdicom.sr.CodedConcept.from_code(meaning.side)
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return described


def _in_frames(sources: Sources, segments: list[Segment]) -> NDArray[np.bool_]:
    """(F, H, W, S) in the order of the source's files, or of the chosen frames of its one file."""
    there = [z for z, plane in enumerate(sources.planes) if plane is not None]
    files = [number for number in sources.numbers if number is not None]
    places = files if len(sources.files) > 1 else range(len(there))
    pixels = np.zeros((max(len(sources.files), len(there)), *segments[0].mask.shape[1:], len(segments)), dtype=bool)
    for z, place in zip(there, places, strict=True):
        for s, segment in enumerate(segments):
            pixels[place, ..., s] = segment.mask[z]
    return pixels


def _only_frames(sources: Sources) -> list[int]:
    """Cut the header of a multi-frame source down to the frames of the volume: highdicom takes one of each place."""
    frames = [plane.frame for plane in sources.planes if plane is not None]
    groups = sources.first.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        raise InputError(
            "the image is a multi-frame object without functional groups (nuclear medicine, dose): no DICOM SEG "
            "can refer. Save as .rtstruct.dcm, .nii.gz, .nrrd or .mha"
        )
    sources.first.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in frames]
    sources.first.NumberOfFrames = len(frames)
    return frames


def _name_frames(written: Dataset, frames: list[int]) -> None:
    """Refer to the frames by their numbers in the file, not among those that were chosen."""
    for groups in written.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence") or []:
            for image in derivation.SourceImageSequence:
                image.ReferencedFrameNumber = frames[int(image.ReferencedFrameNumber) - 1] + 1


def _put(path: Path, plane: Plane, part: NDArray[np.bool_], mask: NDArray[np.bool_], volume: Volume) -> None:
    """Set the voxels of `mask` that the pixels of a frame are, after a check that both lie on one grid."""
    if plane.origin is None or plane.spacing is None:
        raise FileFormatError(f"{path} does not say where its frames lie. Export it again, with positions")
    to_index = np.linalg.inv(volume.affine_in("LPS"))
    down, along = plane.axes[:, 1] * plane.spacing[0], plane.axes[:, 0] * plane.spacing[1]
    start = (to_index[:3, :3] @ plane.origin + to_index[:3, 3])[::-1]  # array index of the first pixel
    steps = [(to_index[:3, :3] @ step)[::-1] for step in (down, along)]
    whole = [np.rint(step) for step in steps]
    size = np.array(part.shape) - 1
    off = max(
        float(np.abs(start + r * steps[0] + c * steps[1] - np.rint(start) - r * whole[0] - c * whole[1]).max())
        for r in (0, size[0])
        for c in (0, size[1])
    )
    between = numbers(plane.header, "SpacingBetweenSlices", 1)
    across = 3.0 - np.abs(whole[0]) - np.abs(whole[1])  # 3 on the axis that both steps leave alone, 2 on theirs
    apart = float(np.dot(volume.spacing, across == 3)) if sorted(across) == [2, 2, 3] else 0.0
    if off > _ALIKE or not apart or (between is not None and not np.isclose(abs(between[0]), apart, rtol=0.02)):
        step = f", {abs(between[0]):.6g} mm apart" if between is not None else ""
        raise InputError(
            f"{path} does not lie on the grid of the image: its frames have pixels of {plane.spacing[0]:.6g} x "
            f"{plane.spacing[1]:.6g} mm{step}, the image voxels of {tuple(round(s, 6) for s in volume.spacing)} mm; a "
            f"frame is {off:.3g} voxels beside it. Give the image that the segmentation was made on"
        )
    r, c = np.nonzero(part)
    voxels = (np.rint(start) + r[:, None] * whole[0] + c[:, None] * whole[1]).astype(int)
    if ((voxels < 0) | (voxels >= mask.shape)).any():
        raise InputError(f"{path} marks voxels outside the image. Give the image that the segmentation was made on")
    mask[tuple(voxels.T)] = True


class Coded(NamedTuple):
    """What a name means: its category, its type, and the side of the body if it says one."""

    category: Code
    type: Code
    side: Code | None


def coded(name: str) -> Coded:
    """The codes for the name of an object, such as "liver", "left kidney", "Kidney_L" or "tumors"; else tissue."""
    from pydicom.sr.codedict import codes

    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    side = next((word for word in words if word in _SIDES), None)
    if side is None and words and words[-1] in ("l", "r"):
        side = "left" if words.pop() == "l" else "right"
    table = _table()
    if "".join(words) in table:  # some have the side in their name, such as the left ventricle
        return Coded(*table["".join(words)], None)
    plain = "".join(word for word in words if word not in _SIDES)
    for key in (plain, plain.removesuffix("s"), plain.removesuffix("es")):
        found = table.get(_SYNONYMS.get(key, key))
        if found is not None:
            return Coded(*found, None if side is None else getattr(codes.SCT, _SIDES[side]))
    return Coded(codes.SCT.Tissue, codes.SCT.Tissue, None)


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[Code, Code]]:
    from pydicom.sr.codedict import codes

    found: dict[str, tuple[Code, Code]] = {}
    for group, category in _CATEGORIES.items():
        types = getattr(codes, f"CID{group}")
        for keyword in types.dir():
            code = getattr(types, keyword)
            if code.scheme_designator == "SCT":
                found.setdefault(keyword.lower(), (getattr(codes.SCT, category), code))
    return found


def color(number: int) -> tuple[int, int, int]:
    """RGB of the object with a label: hues a golden angle apart, so that neighbours differ."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((number - 1) * 0.381966 % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
