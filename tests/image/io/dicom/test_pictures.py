"""Single DICOM images, films and file sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.fileset import FileSet

from limnet.errors import FileFormatError, InputError, MissingFileError
from limnet.image.volume import Volume
from tests.helpers.dicom_files import item, picture, save, stored, write_slices


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
