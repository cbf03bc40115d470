"""DICOM SEG: highdicom, dcmqi (the library behind 3D Slicer) and dciodvfy judge what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from limnet.case.case import Case
from limnet.errors import FileFormatError, InputError
from limnet.image.io.masks import Maker, Segment, read_mask, read_segments, write_segments
from limnet.image.volume import Volume
from tests.helpers.dicom_files import dciodvfy, dcmqi, enhanced, picture, save, stored, write_slices
from tests.helpers.grids import grid
from tests.helpers.small_segmenter import small_segmenter
from tests.test_cli import run

_GRID = np.diag([0.7, 0.9, 2.5, 1.0])
_OBLIQUE = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid("LPS", (0.7, 0.9, 2.5), 0.3)


@pytest.fixture(params=["straight", "oblique"])
def volume(tmp_path: Path, request: Any) -> Volume:
    write_slices(tmp_path / "ct", stored(), _OBLIQUE if request.param == "oblique" else _GRID, RescaleIntercept=-1024,
                 RescaleSlope=1)  # fmt: skip
    return Volume.read(tmp_path / "ct")


def _masks(volume: Volume) -> list[np.ndarray]:
    """Two objects that overlap; the first touches the border and leaves slices empty."""
    one, two = np.zeros(volume.shape, bool), np.random.default_rng(0).random(volume.shape) > 0.7
    one[1:4, :6, 2:7] = True
    return [one, two]


def _segments(volume: Volume) -> list[Segment]:
    one, two = _masks(volume)
    return [Segment(1, "left kidney", one), Segment(2, "my structure", two)]


def test_read_back_by_highdicom(volume: Volume, tmp_path: Path) -> None:
    segments = _segments(volume)
    path = write_segments(volume, segments, tmp_path / "seg.dcm", Maker("limnet-tiny", "limnet 1.2", "abc"))
    read = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in volume.files]
    pixels = read.get_pixels_by_source_instance(uids)
    for number, segment in enumerate(segments):
        np.testing.assert_array_equal(pixels[..., number], segment.mask)
    assert read.SegmentsOverlap == "YES"
    assert read.segmentation_type.value == "BINARY"

    kidney = read.get_segment_description(1)
    assert kidney.segment_label == "left kidney"
    assert kidney.segmented_property_type == codes.SCT.Kidney
    assert kidney.segmented_property_category == codes.SCT.AnatomicalStructure
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert side.CodeMeaning == "Left"
    other = read.get_segment_description(2)
    assert (other.segment_label, other.segmented_property_type) == ("my structure", codes.SCT.Tissue)
    for described in (kidney, other):
        assert described.algorithm_type.value == "SEMIAUTOMATIC"
        about = described.SegmentationAlgorithmIdentificationSequence[0]
        assert (about.AlgorithmName, about.AlgorithmVersion) == ("limnet-tiny", "limnet 1.2")
    source = pydicom.dcmread(volume.files[0])
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"):
        assert read[keyword].value == source[keyword].value
    assert read.SeriesInstanceUID != source.SeriesInstanceUID


def test_judges(volume: Volume, tmp_path: Path) -> None:
    segments = _segments(volume)[:1]
    path = write_segments(volume, segments, tmp_path / "seg.dcm", Maker("limnet-tiny", "limnet 1.2"))
    assert dciodvfy(path) == []
    assert dcmqi(path, tmp_path / "out") == pytest.approx(segments[0].mask.sum() * np.prod(volume.spacing), rel=1e-4)
    back = nibabel.load(next((tmp_path / "out").glob("*.nii.gz")))
    places = np.argwhere(np.asarray(back.dataobj) > 0) @ back.affine[:3, :3].T + back.affine[:3, 3]
    ours = volume.to_world(np.argwhere(segments[0].mask)) * (-1, -1, 1)  # NIfTI's world is RAS
    np.testing.assert_allclose(np.sort(places, axis=0), np.sort(ours, axis=0), atol=1e-3)


def test_own_read_back_and_choice(volume: Volume, tmp_path: Path) -> None:
    segments = _segments(volume)
    path = write_segments(volume, segments, tmp_path / "seg.dcm", Maker())
    for read, written in zip(read_segments(path, volume), segments, strict=True):
        assert (read.number, read.name) == (written.number, written.name)
        np.testing.assert_array_equal(read.mask, written.mask)
    np.testing.assert_array_equal(read_mask(path, volume, label=2), segments[1].mask)
    with pytest.raises(InputError, match=r"holds 2 labels \(1 'left kidney', 2 'my structure'\).*label=1"):
        read_mask(path, volume)
    with pytest.raises(InputError, match=r"no label 3: it has 1 'left kidney'"):
        read_mask(path, volume, label=3)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segmentations_of_other_programs(volume: Volume, tmp_path: Path, kind: str) -> None:
    """Written by highdicom alone; frames in the opposite order, on a part of the slices."""
    one, two = _masks(volume)
    two &= ~one
    files = [pydicom.dcmread(file) for file in volume.files][5:0:-1]
    described = [
        highdicom.seg.SegmentDescription(n, f"part {n}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL") for n in (1, 2)
    ]
    pixels = np.stack([one, two], axis=-1)[5:0:-1]
    for header in files:
        header.PatientBirthDate = header.PatientSex = header.StudyID = header.StudyDate = header.StudyTime = ""
        header.AccessionNumber = header.ReferringPhysicianName = ""
    array = {"BINARY": pixels, "FRACTIONAL": pixels * np.float32(0.7), "LABELMAP": pixels @ np.uint8([1, 2])}[kind]
    seg = highdicom.seg.Segmentation(
        files, array if kind != "LABELMAP" else array.astype(np.uint8), kind, described, highdicom.UID(), 1,
        highdicom.UID(), 1, "m", "m", "1", "1",
    )  # fmt: skip
    seg.save_as(tmp_path / "seg.dcm")
    read = list(read_segments(tmp_path / "seg.dcm", volume))
    assert [segment.name for segment in read if segment.mask.any()] == ["part 1", "part 2"]
    for segment, mask in zip([s for s in read if s.mask.any()], (one, two), strict=True):
        np.testing.assert_array_equal(segment.mask[1:6], mask[1:6])
        assert not segment.mask[[0, 6]].any()


def test_segmentation_lies_on_a_turned_copy_of_the_image(volume: Volume, tmp_path: Path) -> None:
    """The same image as NIfTI with its axes in another order and direction: the same places in the world."""
    segments = _segments(volume)
    path = write_segments(volume, segments, tmp_path / "seg.dcm", Maker())
    affine = volume.affine_in("RAS")
    image = nibabel.Nifti1Image(np.asarray(volume.array.T, np.int16), affine)
    turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, 1]]))
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    other = Volume.read(tmp_path / "turned.nii.gz")
    assert other.shape != volume.shape
    places = np.sort(other.to_world(np.argwhere(read_mask(path, other, label=1))), axis=0)
    ours = np.sort(volume.to_world(np.argwhere(segments[0].mask)) * (-1, -1, 1), axis=0)
    np.testing.assert_allclose(places, ours, atol=1e-3)


def test_another_grid_is_refused(volume: Volume, tmp_path: Path) -> None:
    path = write_segments(volume, _segments(volume), tmp_path / "seg.dcm", Maker())
    array = np.zeros((14, 12, 10), np.int16)
    finer = volume.affine.copy()
    finer[:3, 2] /= 2
    for affine, match in ((finer, "does not lie on the grid"), (np.eye(4), "does not lie on the grid")):
        with pytest.raises(InputError, match=match):
            read_mask(path, Volume.from_array(array, affine=affine), label=1)
    with pytest.raises(InputError, match="marks voxels outside the image"):
        read_mask(path, Volume.from_array(array[:2], affine=volume.affine), label=1)


def test_another_frame_of_reference_is_warned_of(volume: Volume, tmp_path: Path) -> None:
    path = write_segments(volume, _segments(volume), tmp_path / "seg.dcm", Maker())
    data = pydicom.dcmread(path)
    data.FrameOfReferenceUID = "1.2.3.99"
    data.save_as(path)
    with pytest.warns(UserWarning, match="another frame of reference"):
        read_mask(path, volume, label=1)


@pytest.mark.parametrize("times", [1, 2])
def test_multi_frame_source(tmp_path: Path, times: int) -> None:
    """Frames in another order, two time points: the segmentation refers to the frames of the chosen one."""
    order = np.random.default_rng(3).permutation(7 * times)
    values = stored(1, (7 * times, 12, 10))
    positions = [[0.0, 0.0, 2.5 * (i % 7)] for i in range(7 * times)]
    data = enhanced(
        values[order],
        [positions[i] for i in order],
        content=lambda i: {"TemporalPositionIndex": int(order[i] // 7) + 1},
    )
    for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):
        assert keyword not in data
    source = save(data, tmp_path / "mr.dcm")
    volume = Volume.read(source, index=times - 1)
    mask = np.random.default_rng(0).random(volume.shape) > 0.6
    path = write_segments(volume, [Segment(1, "tumor", mask)], tmp_path / "seg.dcm", Maker("m", "1"))
    np.testing.assert_array_equal(read_mask(path, volume), mask)
    seg = highdicom.seg.segread(path)
    frames = [int(np.flatnonzero(order == z + 7 * (times - 1))[0]) + 1 for z in range(7)]
    pixels = seg.get_pixels_by_source_frame(data.SOPInstanceUID, frames)
    np.testing.assert_array_equal(pixels[..., 0], mask)


def test_what_is_not_from_dicom_is_told_which_format_to_take(tmp_path: Path) -> None:
    case = small_segmenter().open(np.zeros((4, 16, 16), np.int16) + np.arange(16, dtype=np.int16))
    case.click((1, 8, 8))
    for name in ("seg.dcm", "x.rtstruct.dcm"):
        for write in (case.save, case.save_labels):
            with pytest.raises(InputError, match=rf"{name}: .* is not DICOM\. Save as \.nii\.gz, \.nrrd or \.mha"):
                write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["seg.dcm", "x.rtstruct.dcm"])
def test_images_without_position(tmp_path: Path, name: str) -> None:
    volume = Volume.read(save(picture(stored(0, (12, 10)), "DX", PixelSpacing=[0.2, 0.2]), tmp_path / "dx.dcm"))
    with pytest.raises(InputError, match=r"no position in the patient\. Save as \.nii\.gz"):
        volume.write_mask(volume.array > 500, tmp_path / name)


@pytest.mark.parametrize("at", [[0, 1, 2, 4, 5], [0, 1, 2, 2.5, 4, 5]])
@pytest.mark.parametrize("name", ["seg.dcm", "x.rtstruct.dcm"])
def test_filled_slices(tmp_path: Path, at: list[float], name: str) -> None:
    write_slices(tmp_path / "d", stored(0, (len(at), 12, 10)), _GRID, at=at)
    with pytest.warns(UserWarning, match="filled"):
        volume = Volume.read(tmp_path / "d", gaps="resample")
    mask = np.ones(volume.shape, bool)
    with pytest.raises(InputError, match=r"slices \[3\] were filled by interpolation"):
        volume.write_mask(mask, tmp_path / name)
    mask[3] = False
    path = volume.write_mask(mask, tmp_path / name)
    np.testing.assert_array_equal(read_mask(path, volume), mask)


def test_source_lacks_what_a_reference_needs(tmp_path: Path) -> None:
    write_slices(tmp_path / "d", stored(), FrameOfReferenceUID="")
    volume = Volume.read(tmp_path / "d")
    with pytest.raises(InputError, match="lack FrameOfReferenceUID"):
        volume.write_mask(volume.array > 500, tmp_path / "seg.dcm")


def _case(tmp_path: Path) -> Case:
    write_slices(tmp_path / "ct", stored(0, (6, 32, 40)), _GRID)
    case = small_segmenter().open(tmp_path / "ct")
    case.object("liver").set_mask(np.pad(np.ones((2, 8, 8), bool), ((1, 3), (4, 20), (4, 28))))
    case.object("lesion").set_mask(np.pad(np.ones((1, 3, 3), bool), ((2, 3), (6, 23), (6, 31))))
    return case


def test_case_saves_whole_objects_that_overlap(tmp_path: Path) -> None:
    case = _case(tmp_path)
    (path,) = case.save_labels(tmp_path / "seg.dcm")
    liver, lesion = read_segments(path, case.volume)
    assert (liver.name, lesion.name) == ("liver", "lesion")
    assert (liver.mask & lesion.mask).sum() >= 9
    np.testing.assert_array_equal(liver.mask, case.object("liver").mask)
    np.testing.assert_array_equal(lesion.mask, case.object("lesion").mask)
    one = case.object("lesion").save(tmp_path / "lesion.dcm")
    seg = highdicom.seg.segread(one)
    assert seg.get_segment_description(1).segmented_property_type == codes.SCT.Lesion
    about = seg.get_segment_description(1).SegmentationAlgorithmIdentificationSequence[0]
    assert about.AlgorithmVersion.startswith("limnet ")
    assert seg.DeviceSerialNumber == case._engine.identity["sha256"][:16]  # type: ignore[index]
    other = small_segmenter().open(tmp_path / "ct")
    np.testing.assert_array_equal(other.set_mask(path, label=1), liver.mask)
    with pytest.raises(InputError, match="part of the image"):
        case.object("lesion").save(case.volume.files[0])
    with pytest.raises(InputError, match=r"start: case\.set_mask"):
        small_segmenter().open(path)


def test_label_maps_with_names_beside_them(tmp_path: Path) -> None:
    case = _case(tmp_path)
    image, _ = case.save_labels(tmp_path / "organs.nii.gz")
    read = list(read_segments(image, case.volume))
    assert [(s.number, s.name) for s in read] == [(1, "liver"), (2, "lesion")]
    np.testing.assert_array_equal(read[1].mask, case.labels == 2)


def test_without_highdicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = _case(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"highdicom, which is not installed: pip install 'limnet\[dicom\]'"):
        case.save_labels(tmp_path / "seg.dcm")


def test_damaged(volume: Volume, tmp_path: Path) -> None:
    path = write_segments(volume, _segments(volume), tmp_path / "seg.dcm", Maker())
    whole = path.read_bytes()
    for size in (len(whole) - 40, len(whole) // 2, 600):
        path.write_bytes(whole[:size])
        with pytest.raises((FileFormatError, InputError), match=r"seg\.dcm"):
            read_mask(path, volume, label=1)


def test_command_line(tmp_path: Path) -> None:
    write_slices(tmp_path / "ct", stored(0, (4, 32, 40)), _GRID)
    assert run("segment", tmp_path / "ct", "--click", "2,16,20", "--out", tmp_path / "seg.dcm") == 0
    assert read_mask(tmp_path / "seg.dcm", Volume.read(tmp_path / "ct"))[2, 16, 20]
    assert highdicom.seg.segread(tmp_path / "seg.dcm").ManufacturerModelName == "limnet-tiny"
