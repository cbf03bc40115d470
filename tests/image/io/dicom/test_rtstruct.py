"""RTSTRUCT: outlines give the masks back exactly; another rasteriser, dciodvfy and rt-utils judge."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.path
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from limnet.errors import InputError
from limnet.image.io.dicom.rtstruct import filled, outlines
from limnet.image.io.masks import Maker, Segment, read_mask, read_segments, write_segments
from limnet.image.volume import Volume
from tests.helpers.dicom_files import dciodvfy, enhanced, item, save, stored, write_slices
from tests.helpers.grids import grid

_GRID = np.diag([0.7, 0.9, 2.5, 1.0])
_OBLIQUE = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid("LPS", (0.7, 0.9, 2.5), 0.3)


def _ring() -> np.ndarray:
    """A hollow ball with a core in its hole, beside a line and a single voxel at the border."""
    z, y, x = np.mgrid[-4:5, -10:11, -12:12]
    ball = np.sqrt((2 * z) ** 2 + y**2 + x**2)
    mask = (ball < 9) & (ball > 5) | (ball < 2)
    mask[:, 0, 3:9] = mask[2, 20, 23] = True
    return mask


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (17, 23)])
def test_outlines_of_noise(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(0).random(shape) < share
    found = outlines(mask)
    np.testing.assert_array_equal(filled(found, shape), mask)
    area = sum(float(np.sum(p[:, 1] * np.roll(p[:, 0], -1) - np.roll(p[:, 1], -1) * p[:, 0])) / 2 for p in found)
    assert abs(area) == mask.sum()  # holes run the other way round
    parts, holes = ndimage.label(mask)[1], ndimage.label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))[1] - 1
    assert len(found) == parts + holes
    for polygon in found:
        steps = np.roll(polygon, -1, axis=0) - polygon
        turns = steps * np.roll(steps, -1, axis=0)
        assert not turns.any()  # every corner is one


def test_polygons_against_another_rasteriser() -> None:
    rng = np.random.default_rng(0)
    centres = np.argwhere(np.ones((30, 40)))
    for _ in range(20):
        polygons = [rng.uniform(-5, 45, (int(rng.integers(3, 9)), 2)) for _ in range(3)]
        inside = np.zeros((4, 30, 40), int)
        for number, shift in enumerate([(0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)]):
            for polygon in polygons:
                # matplotlib fills by winding: triangles of a fan, counted, are the even-odd rule
                for a, b in itertools.pairwise(polygon[1:]):
                    triangle = matplotlib.path.Path([polygon[0], a, b])
                    inside[number] += triangle.contains_points(centres + shift).reshape(30, 40)
        clear = (inside % 2 == inside[0] % 2).all(axis=0)  # away from outlines, whose pixels are inside for us
        assert clear.mean() > 0.98
        np.testing.assert_array_equal(filled(polygons, (30, 40))[clear], inside[0][clear] % 2 == 1)


def test_outlines_through_centres_hold_their_pixels() -> None:
    """As programs write them that trace pixel centres: the pixels on the outline are part of the object."""
    mask = np.zeros((9, 11), bool)
    mask[2:7, 3:9] = True
    np.testing.assert_array_equal(filled([np.array([[2, 3], [2, 8], [6, 8], [6, 3]], float)], (9, 11)), mask)
    one = np.zeros((9, 11), bool)
    one[4, 5] = True
    np.testing.assert_array_equal(filled([np.array([[4, 5]], float)], (9, 11)), one)


@pytest.mark.parametrize("affine", [_GRID, _OBLIQUE], ids=["straight", "oblique"])
def test_written_by_its_own_headers(tmp_path: Path, affine: np.ndarray) -> None:
    mask = _ring()
    write_slices(tmp_path / "ct", stored(0, mask.shape), affine, SeriesNumber=4)
    volume = Volume.read(tmp_path / "ct")
    segments = [
        Segment(1, "liver", mask),
        Segment(2, "all", mask | (volume.array > 1500)),
        Segment(3, "none", mask & False),
    ]
    path = write_segments(volume, segments, tmp_path / "x.rtstruct.dcm", Maker("limnet-tiny", "limnet 1.2"))
    assert dciodvfy(path) == []
    for read, written in zip(read_segments(path, volume), segments, strict=True):
        assert (read.number, read.name) == (written.number, written.name)
        np.testing.assert_array_equal(read.mask, written.mask)
    np.testing.assert_array_equal(read_mask(path, volume, label=1), mask)

    data = pydicom.dcmread(path)
    headers = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, volume.files)}
    (frame,) = data.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == volume_header(volume).SeriesInstanceUID
    assert {image.ReferencedSOPInstanceUID for image in series.ContourImageSequence} == set(headers)
    assert [roi.ROIName for roi in data.StructureSetROISequence] == ["liver", "all", "none"]
    assert {roi.ROIGenerationAlgorithm for roi in data.StructureSetROISequence} == {"SEMIAUTOMATIC"}
    assert data.StudyInstanceUID == volume_header(volume).StudyInstanceUID

    total = 0.0  # by the shoelace formula in each slice's own plane, signed: holes count against
    for contour in data.ROIContourSequence[0].ContourSequence:
        header = headers[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        along, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(header.ImagePositionPatient, float)
        assert np.abs(points @ np.cross(along, down)).max() < 1e-3
        x, y = points @ along, points @ down
        total += float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    assert abs(total) * 2.5 == pytest.approx(mask.sum() * np.prod(volume.spacing), rel=1e-3)


def volume_header(volume: Volume) -> pydicom.Dataset:
    return pydicom.dcmread(volume.files[0])


def test_rt_utils_reads_it(tmp_path: Path) -> None:
    rt_utils = pytest.importorskip("rt_utils", reason="rt-utils is not installed (it needs OpenCV)")
    mask = np.zeros((6, 40, 40), bool)  # rt-utils takes square images of square pixels only
    mask[1:5] = np.hypot(*np.mgrid[-20:20, -20:20]) < 15
    affine = np.diag([0.8, 0.8, 2.5, 1.0])
    write_slices(tmp_path / "ct", stored(0, mask.shape), affine, PatientBirthDate="", PatientSex="", StudyID="1")
    volume = Volume.read(tmp_path / "ct")
    path = volume.write_mask(mask, tmp_path / "x.rtstruct.dcm")
    built = rt_utils.RTStructBuilder.create_from(dicom_series_path=str(tmp_path / "ct"), rt_struct_path=str(path))
    theirs = np.moveaxis(built.get_roi_mask_by_name("label 1"), -1, 0)
    theirs = theirs if theirs[1].any() else theirs[::-1]
    assert 2 * (theirs & mask).sum() / (theirs.sum() + mask.sum()) > 0.95  # it rounds corners to whole pixels
    built.add_roi(mask=np.moveaxis(mask, 0, -1), name="again")
    built.save(str(tmp_path / "theirs.dcm"))
    np.testing.assert_array_equal(read_mask(tmp_path / "theirs.dcm", volume, label=2), mask)


def test_enhanced_source(tmp_path: Path) -> None:
    data = enhanced(stored(1)[::-1], [[0.0, 0.0, 2.5 * z] for z in range(6, -1, -1)])
    volume = Volume.read(save(data, tmp_path / "mr.dcm"))
    mask = np.random.default_rng(0).random(volume.shape) > 0.6
    path = volume.write_mask(mask, tmp_path / "x.rtstruct.dcm")
    np.testing.assert_array_equal(read_mask(path, volume), mask)
    contour = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence[0]
    assert contour.ContourImageSequence[0].ReferencedFrameNumber == 7  # slice 0 is the last frame


def test_contours_of_another_image(tmp_path: Path) -> None:
    write_slices(tmp_path / "ct", stored(), _GRID)
    volume = Volume.read(tmp_path / "ct")
    path = volume.write_mask(volume.array > 500, tmp_path / "x.rtstruct.dcm")
    coarser, moved = volume.affine.copy(), volume.affine.copy()
    coarser[:3, 2] *= 2
    moved[0, 3] += 20
    for affine, match in ((coarser, "slices beside slice"), (moved, "outside the image")):
        with pytest.raises(InputError, match=match):
            read_mask(path, Volume.from_array(volume.array, affine=affine))


def test_points_enclose_nothing(tmp_path: Path) -> None:
    write_slices(tmp_path / "ct", stored(), _GRID)
    volume = Volume.read(tmp_path / "ct")
    path = volume.write_mask(volume.array > 500, tmp_path / "x.rtstruct.dcm")
    data = pydicom.dcmread(path)
    point = item(ContourGeometricType="POINT", NumberOfContourPoints=1, ContourData=[0.0, 0.0, 0.0])
    data.ROIContourSequence[0].ContourSequence = [point]
    data.save_as(path)
    assert not read_mask(path, volume).any()
