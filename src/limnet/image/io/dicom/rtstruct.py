"""DICOM RTSTRUCT: outlines of objects along the edges of pixels, and outlines of any program as masks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.image.io.dicom.planes import ADVICE, Plane, quiet, text
from limnet.image.io.dicom.seg import Sources, color, new_series
from limnet.image.io.masks import Maker, Segment
from limnet.image.io.reading import explained
from limnet.image.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_DATA = 0x30060050  # ContourData
_FLAT = 0.25  # slices: an outline may lie this far from the middle of one
_COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "SpecificCharacterSet",
)  # fmt: skip
_ON_LINE = 1e-3  # pixels: a centre this near to an outline lies on it (positions are written to a tenth of a micron)
_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up: each is a right turn of the one before


def write_rtstruct(sources: Sources, segments: list[Segment], path: Path, maker: Maker) -> None:
    """Write objects as an RT Structure Set (PS3.3 A.19): one CLOSED_PLANAR contour for each outline and hole.

    Outlines run along the edges of the pixels, at the places that each slice's own header says: filled by the even-odd
    rule they are the masks again, and their area is that of the masks.
    """
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    first, now = sources.first, datetime.now()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(RTSTRUCT_CLASS), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with quiet():
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        for keyword in _COPIED:
            if keyword in first:
                data[keyword] = first[keyword]
        data.SOPClassUID, data.SOPInstanceUID = RTSTRUCT_CLASS, meta.MediaStorageSOPInstanceUID
        data.Modality, data.SeriesInstanceUID, data.SeriesNumber = "RTSTRUCT", generate_uid(), new_series(first)
        data.SeriesDescription = f"limnet: {', '.join(segment.name for segment in segments)}"[:64]
        data.Manufacturer, data.ManufacturerModelName = "limnet", maker.model[:64]
        data.SoftwareVersions, data.DeviceSerialNumber = maker.version[:64], maker.serial[:64]
        data.OperatorsName = data.PositionReferenceIndicator = ""
        data.InstanceNumber, data.StructureSetLabel = 1, "limnet"
        data.StructureSetDate = data.InstanceCreationDate = data.SeriesDate = now.strftime("%Y%m%d")
        data.StructureSetTime = data.InstanceCreationTime = data.SeriesTime = now.strftime("%H%M%S")
        data.ReferencedFrameOfReferenceSequence = [_frame_of_reference(sources)]
        data.ApprovalStatus = "UNAPPROVED"
        regions, contours, observations = [], [], []
        for number, segment in enumerate(segments, start=1):
            region = Dataset()
            region.ROINumber, region.ROIName = number, segment.name[:64]
            region.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
            region.ROIGenerationAlgorithm = "SEMIAUTOMATIC"
            region.ROIGenerationDescription = f"{maker.model} {maker.version}".strip()[:1024]
            regions.append(region)
            contour = Dataset()
            contour.ROIDisplayColor, contour.ReferencedROINumber = list(color(number)), number
            drawn = _contours(sources, segment.mask)
            if drawn:
                contour.ContourSequence = drawn
            contours.append(contour)
            observation = Dataset()
            observation.ObservationNumber = observation.ReferencedROINumber = number
            observation.RTROIInterpretedType = observation.ROIInterpreter = ""
            observations.append(observation)
        data.StructureSetROISequence, data.ROIContourSequence = regions, contours
        data.RTROIObservationsSequence = observations
        data.save_as(path, enforce_file_format=True)


def read_rtstruct(path: Path, header: Dataset, volume: Volume) -> list[Segment]:
    """The objects of an RT Structure Set on the grid of a volume: pixels with their centre inside.

    InputError for contours that lie on no slice of the volume, or outside it.
    """
    with explained(path, ADVICE), quiet():
        to_index = np.linalg.inv(volume.affine_in("LPS"))
        names = {int(roi.ROINumber): text(roi, "ROIName") for roi in header.get("StructureSetROISequence") or []}
        found = []
        for roi in header.get("ROIContourSequence") or []:
            number = int(roi.ReferencedROINumber)
            slices: dict[int, list[NDArray[np.float64]]] = {}
            for contour in roi.get("ContourSequence") or []:
                if text(contour, "ContourGeometricType") not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                    continue  # points and open lines enclose nothing
                points = _points(contour)
                index = (points @ to_index[:3, :3].T + to_index[:3, 3])[:, ::-1]
                slices.setdefault(_slice_of(path, index, volume), []).append(index[:, 1:])
            mask = np.zeros(volume.shape, dtype=bool)
            for z, polygons in slices.items():
                mask[z] = filled(polygons, volume.shape[1:])
            found.append(Segment(number, names.get(number) or f"region {number}", mask))
    return found


def _points(contour: Dataset) -> NDArray[np.float64]:
    """(N, 3) mm; parsed from the bytes of the file, which is many times faster than number by number."""
    held: Any = contour.get_item(_DATA)
    values = held.value.split(b"\\") if isinstance(held.value, bytes) else held.value
    return np.array(values, dtype=np.float64).reshape(-1, 3)


def _slice_of(path: Path, index: NDArray[np.float64], volume: Volume) -> int:
    z = int(np.rint(index[:, 0].mean()))
    off = float(np.abs(index[:, 0] - z).max())
    if off > _FLAT:
        raise InputError(
            f"{path} has a contour {off:.2f} slices beside slice {z} of the image, or across slices: it belongs to "
            "other slices. Give the image that it was drawn on"
        )
    inside = (index[:, 1:] > -1).all() and (index[:, 1:] < volume.shape[1:]).all()
    if not 0 <= z < volume.shape[0] or not inside:
        raise InputError(f"{path} has a contour outside the image. Give the image that it was drawn on")
    return z


def _frame_of_reference(sources: Sources) -> Dataset:
    from pydicom.dataset import Dataset

    first = sources.first
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_image(header) for header in sources.files]
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # detached study management, retired but asked for here
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(header: Dataset, plane: Plane | None = None) -> Dataset:
    from pydicom.dataset import Dataset

    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if plane is not None and "NumberOfFrames" in header:
        image.ReferencedFrameNumber = plane.frame + 1
    return image


def _contours(sources: Sources, mask: NDArray[np.bool_]) -> list[Dataset]:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    found: list[Any] = []
    for z, (plane, number) in enumerate(zip(sources.planes, sources.numbers, strict=True)):
        if plane is None or plane.origin is None or number is None or not mask[z].any():
            continue
        down, along = plane.spacing or (1.0, 1.0)
        for corners in outlines(mask[z]):
            points = plane.origin + corners[:, :1] * down * plane.axes[:, 1] + corners[:, 1:] * along * plane.axes[:, 0]
            contour = Dataset()
            contour.ContourImageSequence = [_image(sources.files[number], plane)]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourNumber = len(found) + 1
            data = "\\".join(f"{value:.4f}" for value in points.ravel()).encode()  # a tenth of a micron
            data += b" " * (len(data) % 2)
            contour[_DATA] = RawDataElement(Tag(_DATA), "DS", len(data), data, 0, False, True)  # unchecked: many
            found.append(contour)
    return found


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed outlines of a mask (H, W), exactly along the edges of its pixels.

    Filled by the even-odd rule they give the mask back: rings around holes are outlines of their own. Pixels that touch
    at a corner only are in separate outlines. Each is (N, 2) corners (row, column), at halves where pixel centres are
    at whole numbers; the last joins the first, and none lies on a straight line.
    """
    padded = np.pad(mask, 1)
    ahead: dict[tuple[int, int], list[int]] = {}  # corner -> directions of the edges that leave it, object on the right
    for direction, (dy, dx) in enumerate(_AHEAD):
        right = padded & ~np.roll(padded, (dx, -dy), axis=(0, 1))  # no object on the left of the edge
        for row, column in zip(*(index.tolist() for index in np.nonzero(right)), strict=True):
            # the corner of this pixel at which a walk around it, object on the right, meets the edge
            corner = (row + (direction in (2, 3)), column + (direction in (1, 2)))
            ahead.setdefault(corner, []).append(direction)
    found = []
    while ahead:
        corner = start = next(iter(ahead))
        direction = ahead[start][0]
        points: list[tuple[int, int]] = []
        turned = -1
        while True:
            leaving = ahead[corner]
            # of two edges the sharper right turn: it stays at the pixel that it goes around
            direction = (direction + 1) % 4 if (direction + 1) % 4 in leaving and len(leaving) > 1 else leaving[0]
            leaving.remove(direction)
            if not leaving:
                del ahead[corner]
            if direction != turned:
                points.append(corner)
            turned = direction
            corner = (corner[0] + _AHEAD[direction][0], corner[1] + _AHEAD[direction][1])
            if corner == start and (direction + 1) % 4 not in ahead.get(start, ()):  # it may come by twice
                break
        found.append(np.array(points, dtype=np.float64) - 1.5)  # one of padding, half a pixel from corner to centre
    return found


def filled(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) with their centre inside an odd number of polygons (N, 2) (row, column), or on an outline.

    Outlines through pixel centres come from programs that trace centres: they mean those pixels to be inside.
    """
    height, width = shape
    crossed = np.zeros((height, width + 1), dtype=np.int64)
    on = np.zeros(shape, dtype=bool)
    if not polygons:
        return on
    start = np.concatenate(polygons)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.maximum(np.ceil(low - _ON_LINE), 0).astype(int)
    count = np.maximum(np.minimum(np.floor(high + _ON_LINE), height - 1).astype(int) - first + 1, 0)
    flat = high - low <= _ON_LINE
    for level in np.flatnonzero(flat & (count > 0)):
        left, right = sorted((start[level, 1], end[level, 1]))
        on[first[level], max(0, int(np.ceil(left - _ON_LINE))) : max(0, int(np.floor(right + _ON_LINE)) + 1)] = True
    count[flat] = 0
    edge = np.repeat(np.arange(len(start)), count)  # one entry for each row that an edge meets
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    (y, x), (y1, x1) = start[edge].T, end[edge].T
    x = x + (row - y) * (x1 - x) / (y1 - y)
    cuts = (row >= low[edge]) & (row < high[edge])
    np.add.at(crossed, (row[cuts], np.clip(np.ceil(x[cuts]), 0, width).astype(int)), 1)
    column = np.rint(x)
    near = (np.abs(x - column) <= _ON_LINE) & (column >= 0) & (column < width)
    on[row[near], column[near].astype(int)] = True
    return np.asarray((np.cumsum(crossed, axis=1)[:, :width] % 2 == 1) | on)
