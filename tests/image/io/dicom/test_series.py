"""DICOM series, single images, films and file sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import FileDataset
from pydicom.fileset import FileSet

from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.volume import Volume
from tests.helpers.dicom_files import item, picture, save, stored, write_slices
from tests.helpers.grids import grid

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _write(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    uid: str | None = None,
    number: int = 1,
    description: str = "abdomen",
    modality: str = "CT",
    reverse: bool = True,
    intercept: float = -1024,
    prefix: str = "s",
    positions: bool = True,
) -> str:
    """A series whose instance numbers run backwards, with a table of values as a scanner has it."""

    def change(data: FileDataset, z: int) -> None:
        data.InstanceNumber = len(array) - z if reverse else z + 1
        if not positions:
            del data.ImagePositionPatient, data.ImageOrientationPatient

    about = {"SeriesNumber": number, "SeriesDescription": description}
    about |= {"RescaleSlope": "1", "RescaleIntercept": str(intercept)}
    return write_slices(folder, array, affine, kind=modality, uid=uid, prefix=prefix, change=change, **about)


@pytest.mark.parametrize("name", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_series_is_sorted_rescaled_and_placed(tmp_path: Path, name: str, tilt: float) -> None:
    affine = _LPS @ grid(name, (0.7, 0.9, 2.5), tilt)
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:3, 2] *= -1  # the third axis of DICOM is the normal of the other two
    values = stored()
    _write(tmp_path / "ct", values, affine)
    (tmp_path / "ct" / "readme.txt").write_text("no DICOM")
    (tmp_path / "ct" / "._s001.dcm").write_bytes(b"side file")
    volume = Volume.read(tmp_path / "ct")
    assert volume.modality == "CT"
    assert volume.convention == "LPS"
    assert volume.array.dtype.kind == "i"
    np.testing.assert_array_equal(volume.array, values.astype(int) - 1024)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (2.5, 0.9, 0.7), rtol=1e-5)

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.array)
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        mask = volume.array > 0
        back = SimpleITK.ReadImage(str(volume.write_mask(mask, tmp_path / f"m{suffix}")))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), mask)
        for index in ((0, 0, 0), (9, 11, 6)):
            expected = image.TransformIndexToPhysicalPoint(index)
            np.testing.assert_allclose(back.TransformIndexToPhysicalPoint(index), expected, atol=1e-3)


def test_two_series_need_a_choice(tmp_path: Path) -> None:
    affine = np.diag([0.7, 0.9, 2.5, 1.0])
    first, second = stored(1), stored(2, (4, 12, 10))
    uid = _write(tmp_path / "d", first, affine, number=2, description="arterial")
    _write(tmp_path / "d", second, affine, number=3, description="T2 tse", modality="MR", intercept=0, prefix="m")
    with pytest.raises(InputError, match="holds 2 DICOM series") as info:
        Volume.read(tmp_path / "d")
    for text in (uid, "arterial", "7 files", "T2 tse", "4 files", "series="):
        assert text in str(info.value)
    for key in (uid, 2, "2", "Arterial"):
        np.testing.assert_array_equal(Volume.read(tmp_path / "d", series=key).array, first.astype(int) - 1024)
    mr = Volume.read(tmp_path / "d", series="t2 TSE")
    assert mr.modality == "MR"
    np.testing.assert_array_equal(mr.array, second)
    with pytest.raises(InputError, match="fits no series"):
        Volume.read(tmp_path / "d", series="venous")
    _write(tmp_path / "d", second, affine, description="arterial", prefix="n")
    with pytest.raises(InputError, match="fits 2 series"):
        Volume.read(tmp_path / "d", series="arterial")


def test_scout_is_left_out(tmp_path: Path) -> None:
    values = stored()
    uid = _write(tmp_path / "d", values, np.eye(4), intercept=0)
    _write(tmp_path / "d", stored(3, (1, 20, 20)), np.eye(4), uid=uid, prefix="scout")
    with pytest.warns(UserWarning, match="1 of 8 slices"):
        volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values)


def test_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    affine = np.diag([0.7, 0.7, 3.0, 1.0])
    affine[1, 2] = 1.2
    _write(tmp_path / "d", stored(), affine)
    np.testing.assert_allclose(Volume.read(tmp_path / "d").affine, affine, atol=1e-4)


def test_without_positions_the_instance_numbers_count(tmp_path: Path) -> None:
    values = stored()
    _write(tmp_path / "d", values, np.diag([0.5, 0.5, 4.0, 1]), positions=False, reverse=False, intercept=0)
    with pytest.warns(UserWarning, match=r"no position: taken in order of their instance numbers, 4\.0 mm apart"):
        volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values)
    assert volume.spacing == (4.0, 0.5, 0.5)
    again = pydicom.dcmread(tmp_path / "d" / "s003.dcm")
    again.InstanceNumber = 2
    again.save_as(tmp_path / "d" / "s003.dcm")
    with pytest.raises(FileFormatError, match=r"s002\.dcm and s003\.dcm the same instance number 2"):
        Volume.read(tmp_path / "d")


def test_slice_location_alone(tmp_path: Path) -> None:
    values = stored()
    _write(tmp_path / "d", values, np.diag([0.5, 0.5, 4.0, 1]), positions=False, intercept=0)
    for z, path in enumerate(sorted((tmp_path / "d").iterdir(), reverse=True)):
        data = pydicom.dcmread(path)
        data.SliceLocation = 3.5 * z
        data.save_as(path)
    with pytest.warns(UserWarning, match="placed by SliceLocation alone"):
        volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values)
    assert volume.spacing == (3.5, 0.5, 0.5)


def test_one_slice(tmp_path: Path) -> None:
    _write(tmp_path / "d", stored(0, (1, 12, 10)), np.diag([0.5, 0.5, 4.0, 1]))
    volume = Volume.read(tmp_path / "d")
    assert volume.shape == (1, 12, 10)
    assert volume.spacing == (4.0, 0.5, 0.5)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "bare").write_bytes((tmp_path / "d" / "s001.dcm").read_bytes())
    for path in (tmp_path / "d" / "s001.dcm", tmp_path / "e" / "bare"):
        alone = Volume.read(path)
        np.testing.assert_array_equal(alone.array, volume.array)
        assert alone.source == path
    _write(tmp_path / "e", stored(0, (2, 12, 10)), np.eye(4))
    with pytest.warns(UserWarning, match=r"volume of one slice\. For the whole series give the folder"):
        Volume.read(tmp_path / "e" / "bare")


def test_damaged_slice_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "d", stored(), np.eye(4))
    whole = (tmp_path / "d" / "s007.dcm").read_bytes()
    for size in (len(whole) - 150, 400, 0):
        (tmp_path / "d" / "s007.dcm").write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match=r"s007\.dcm"):
            Volume.read(tmp_path / "d")


def test_segmentation_objects_are_not_images(tmp_path: Path) -> None:
    values = stored()
    _write(tmp_path / "d", values, np.eye(4), intercept=0)
    _write(tmp_path / "d", stored(1, (1, 12, 10)), np.eye(4), prefix="seg")
    for path in (tmp_path / "d").glob("seg*"):
        data = pydicom.dcmread(path)
        data.Modality = "SEG"
        data.save_as(path)
    np.testing.assert_array_equal(Volume.read(tmp_path / "d").array, values)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(MissingFileError, match="Expected the files of a DICOM series, or PNG or JPEG frames"):
        Volume.read(tmp_path / "d")
    (tmp_path / "d" / "notes.txt").write_text("x")
    (tmp_path / "d" / "series1").mkdir()
    with pytest.raises(MissingFileError, match="holds series1: give the one"):
        Volume.read(tmp_path / "d")
    (tmp_path / "d" / "a.nii.gz").write_bytes(b"x")
    with pytest.raises(MissingFileError, match=r"holds a\.nii\.gz: give the one"):
        Volume.read(tmp_path / "d")


def test_a_slice_whose_class_is_damaged_is_not_left_out(tmp_path: Path) -> None:
    _write(tmp_path, stored(), np.eye(4))
    path = tmp_path / "s003.dcm"
    data = path.read_bytes()
    at = data.rindex(b"1.2.840.10008.5.1.4.1.1.2")
    path.write_bytes(data[: at + 24] + b"979 \x08\x00" + data[at + 26 : at + 60])  # the rest is gone
    with pytest.raises(FileFormatError, match=r"s003\.dcm could not be read"):
        Volume.read(tmp_path)


def test_radiograph_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    values = stored(0, (12, 10))
    path = save(picture(values, "DX", PixelSpacing=[0.2, 0.3]), tmp_path / "dx.dcm")
    for place in (path, tmp_path):
        volume = Volume.read(place)
        np.testing.assert_array_equal(volume.array[0], values)
        assert volume.spacing == (1.0, 0.2, 0.3)
        assert volume.modality == "DX"
        assert volume.files == (path,)


def test_ultrasound_film(tmp_path: Path) -> None:
    values = stored(0, (5, 12, 10)).astype(np.uint8)
    region = item(
        RegionSpatialFormat=1, PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.03,
        PhysicalDeltaY=0.04,
    )  # fmt: skip
    data = picture(values, "US cine", SequenceOfUltrasoundRegions=[region])
    path = save(data, tmp_path / "us.dcm")
    volume = Volume.read(path)
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_allclose(volume.spacing, (1.0, 0.4, 0.3))
    save(picture(values, "US cine", SeriesInstanceUID=data.SeriesInstanceUID), tmp_path / "us2.dcm")
    with pytest.raises(InputError, match=r"2 multi-frame files without positions.*us\.dcm"):
        Volume.read(tmp_path)


def test_ultrasound_frame(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    path = save(picture(values, "US", PixelSpacing=[0.2, 0.2]), tmp_path / "us.dcm")
    np.testing.assert_array_equal(Volume.read(path).array, values[None])


def test_file_set(tmp_path: Path) -> None:
    """A medium with a DICOMDIR: two series, opened by the file or by its folder."""
    head, chest = stored(1), stored(2, (4, 6, 5))
    first = write_slices(tmp_path / "a", head, SeriesNumber=3, StudyDate="20200101", StudyTime="12", StudyID="1")
    write_slices(tmp_path / "b", chest, SeriesNumber=4, StudyDate="20200101", StudyTime="12", StudyID="1")
    files = FileSet()
    for path in [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]:
        files.add(path)
    files.write(tmp_path / "medium")
    for place in (tmp_path / "medium" / "DICOMDIR", tmp_path / "medium"):
        with pytest.raises(InputError, match="holds 2 DICOM series"):
            Volume.read(place)
        volume = Volume.read(place, series=3)
        np.testing.assert_array_equal(volume.array, head)
        assert len(volume.files) == 7
        np.testing.assert_array_equal(Volume.read(place, series=first).array, head)
    gone = volume.files[2]
    shutil.copy(gone, gone.with_name(gone.name.lower()))  # as some systems mount a disc
    if not gone.samefile(gone.with_name(gone.name.lower())):
        gone.unlink()
    np.testing.assert_array_equal(Volume.read(tmp_path / "medium", series=3).array, head)
    gone.with_name(gone.name.lower()).unlink()
    with pytest.raises(MissingFileError, match=rf"1 of 11 images that .*DICOMDIR lists are not there.*{gone.name}"):
        Volume.read(tmp_path / "medium", series=3)
    (tmp_path / "medium" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"junk")
    with pytest.raises(FileFormatError, match=r"DICOMDIR could not be read.*Give the folder of one series"):
        Volume.read(tmp_path / "medium" / "DICOMDIR")


def test_dicom_without_an_image(tmp_path: Path) -> None:
    data = picture(stored(0, (12, 10)))
    del data.PixelData
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    data.Modality = "SR"
    with pytest.raises(InputError, match=r"without an image that could be segmented.*Basic Text SR"):
        Volume.read(save(data, tmp_path / "sr.dcm"))


@pytest.mark.parametrize("name", ["x.dcm", "x"])
def test_file_that_is_no_dicom(tmp_path: Path, name: str) -> None:
    for junk in (
        b"",
        b"not DICOM at all",
        b"\x08\x00\x05\x00" + bytes(range(200)),
        b"\0" * 128 + b"DICM" + b"\xff" * 50,
    ):
        (tmp_path / name).write_bytes(junk)
        with pytest.raises((FileFormatError, InputError), match=r"^[^\n]*x[^\n]*$"):
            Volume.read(tmp_path / name)
