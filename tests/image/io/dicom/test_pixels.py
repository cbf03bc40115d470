"""Values and colours of DICOM pixels, compressed or not; pydicom and SimpleITK are the judges."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pydicom.encaps
import pydicom.pixels
import pytest
import SimpleITK
from pydicom.dataset import FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from limnet.errors import FileFormatError
from limnet.image.volume import Volume
from tests.helpers.dicom_files import picture, place, save, stored, write_slices

_SPACED = {"PixelSpacing": [0.5, 0.5]}


@pytest.mark.parametrize("kind", ["CT", "MR", "PT"])
def test_monochrome1_of_measured_values_is_display_only(tmp_path: Path, kind: str) -> None:
    values = stored()
    write_slices(
        tmp_path / "d", values, kind=kind, PhotometricInterpretation="MONOCHROME1", RescaleSlope=1,
        RescaleIntercept=-1024,
    )  # fmt: skip
    np.testing.assert_array_equal(Volume.read(tmp_path / "d").array, values.astype(int) - 1024)


def test_monochrome1_radiograph_is_shown_as_viewers_show_it(tmp_path: Path) -> None:
    values = stored(0, (12, 10))
    data = picture(values, "DX", PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, **_SPACED)
    path = save(data, tmp_path / "dx.dcm")
    np.testing.assert_array_equal(Volume.read(path).array[0], 4095 - values)
    np.testing.assert_array_equal(Volume.read(path).array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


def test_slopes_of_a_pet_differ_between_slices(tmp_path: Path) -> None:
    values = stored()

    def scale(data: FileDataset, z: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = f"{1.5 + z / 7:.9g}", "0"

    write_slices(tmp_path / "d", values, kind="PT", change=scale)
    volume = Volume.read(tmp_path / "d")
    expected = values * np.array([float(f"{1.5 + z / 7:.9g}") for z in range(7)])[:, None, None]
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize("signed", [False, True])
def test_bits_outside_the_value_are_ignored(tmp_path: Path, signed: bool) -> None:
    """12 bits of 16; the upper four hold an overlay, as old scanners store it."""
    low = -2048 if signed else 0
    values = np.random.default_rng(0).integers(low, low + 4096, (3, 8, 6))
    raw = (values & 0x0FFF).astype(np.uint16) | np.uint16(0x5000)
    write_slices(tmp_path / "d", raw, BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    np.testing.assert_array_equal(Volume.read(tmp_path / "d").array, values)


@pytest.mark.parametrize(
    ("bits", "slope", "intercept"), [(12, 1, -1024), (16, 1, -1024), (12, 2, 0), (8, 1, 0), (12, 1, 0), (12, 0.5, 3)]
)
def test_types_are_those_of_itk(tmp_path: Path, bits: int, slope: float, intercept: float) -> None:
    values = (stored() % 256).astype(np.uint8) if bits == 8 else stored()
    write_slices(tmp_path / "d", values, BitsStored=bits, HighBit=bits - 1, RescaleSlope=slope,
                 RescaleIntercept=intercept)  # fmt: skip
    volume = Volume.read(tmp_path / "d")
    judge = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "d" / "s003.dcm")))[0]
    np.testing.assert_array_equal(volume.array[2], judge.astype(volume.array.dtype))
    assert volume.array.dtype == (np.float32 if judge.dtype == np.float64 else judge.dtype)


def test_modality_table(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "OD"
    table.add_new("LUTData", "US", [1000, 300, 20, 1])
    values = (stored() % 4).astype(np.uint16)
    write_slices(tmp_path / "d", values, ModalityLUTSequence=[table])
    np.testing.assert_array_equal(Volume.read(tmp_path / "d").array, np.array([1000, 300, 20, 1])[values])


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", None])
@pytest.mark.parametrize("missing", [None, [0, 0]])
def test_pixel_spacing_and_what_stands_in_for_it(tmp_path: Path, keyword: str | None, missing: list | None) -> None:
    data = picture(stored(0, (12, 10)), "DX")
    if missing:
        data.PixelSpacing = missing
    if keyword:
        setattr(data, keyword, [0.14, 0.15])
    path = save(data, tmp_path / "dx.dcm")
    if keyword:
        assert Volume.read(path).spacing[1:] == pytest.approx((0.14, 0.15))
        return
    with pytest.warns(UserWarning, match="size of a pixel is unknown, taken as 1 mm"):
        assert Volume.read(path).spacing == (1, 1, 1)


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling="4:2:2")
    return buffer.getvalue()


def _itk_compressed(path: Path, compressor: str) -> None:
    image = SimpleITK.ReadImage(str(path))
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(image)


@pytest.mark.parametrize("way", ["RLE", "JPEG-LS", "JPEG", "JPEG2000", "deflated", "implicit", "big endian"])
def test_transfer_syntaxes(tmp_path: Path, way: str) -> None:
    values = stored()
    write_slices(
        tmp_path / "d", values, RescaleSlope=1, RescaleIntercept=-1024, BitsStored=12, HighBit=11,
        PhotometricInterpretation="MONOCHROME1" if way in ("RLE", "JPEG-LS") else "MONOCHROME2",
    )  # fmt: skip
    for path in (tmp_path / "d").iterdir():
        if way in ("JPEG", "JPEG2000"):
            _itk_compressed(path, way)
            continue
        data = pydicom.dcmread(path)
        if way in ("RLE", "JPEG-LS"):
            data.compress(RLELossless if way == "RLE" else JPEGLSLossless, generate_instance_uid=False)
        elif way == "big endian":
            data.PixelData = data.pixel_array.astype(">u2").tobytes()
            data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        else:
            syntax = DeflatedExplicitVRLittleEndian if way == "deflated" else ImplicitVRLittleEndian
            data.file_meta.TransferSyntaxUID = syntax
        if way == "big endian":
            pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=False, force_encoding=True)
        else:
            data.save_as(path)
    volume = Volume.read(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, values.astype(int) - 1024)
    assert volume.array.dtype == (np.int32 if way.startswith("JPEG") and way != "JPEG-LS" else np.int16)  # ITK: 16 bits


def test_files_without_preamble(tmp_path: Path) -> None:
    values = stored()
    write_slices(tmp_path / "d", values)
    for path in (tmp_path / "d").iterdir():
        data = pydicom.dcmread(path)
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.preamble = None
        pydicom.dcmwrite(path.with_suffix(""), data, implicit_vr=True, little_endian=True)
        path.unlink()
    assert (tmp_path / "d" / "s001").read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(Volume.read(tmp_path / "d").array, values)


@pytest.mark.parametrize("way", ["RGB", "planes", "YBR_FULL", "palette", "JPEG-LS", "JPEG"])
def test_colours(tmp_path: Path, way: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3)).astype(np.uint8)
    tolerance = 0
    if way == "planes":
        data = picture(values, "US cine", PlanarConfiguration=1)
        data.PixelData = np.moveaxis(values, -1, 1).tobytes()
    elif way == "YBR_FULL":
        data = picture(pydicom.pixels.convert_color_space(values, "RGB", "YBR_FULL"), "US cine")
        data.PhotometricInterpretation, tolerance = way, 2
    elif way == "palette":
        index = np.random.default_rng(1).integers(0, 4, (3, 16, 12)).astype(np.uint8)
        table = np.array([[0, 0, 0], [255, 10, 20], [1, 200, 3], [90, 90, 255]], np.uint8)
        data, values = picture(index, "US cine", PhotometricInterpretation="PALETTE COLOR"), table[index]
        for number, color in enumerate(("Red", "Green", "Blue")):
            setattr(data, f"{color}PaletteColorLookupTableDescriptor", [4, 0, 16])
            setattr(data, f"{color}PaletteColorLookupTableData", (table[:, number].astype("<u2") * 257).tobytes())
    elif way == "JPEG":  # lossy, chrominance at half the resolution, as ultrasound machines write it
        values = np.tile(np.linspace(40, 200, 16).astype(np.uint8)[:, None, None], (3, 1, 12, 3))
        values[..., 1] //= 2
        data, tolerance = picture(values, "US cine", PhotometricInterpretation="YBR_FULL_422"), 6
        data.PixelData = pydicom.encaps.encapsulate([_jpeg(frame) for frame in values])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    else:
        data = picture(values, "US cine")
    if way == "JPEG-LS":
        data.compress(JPEGLSLossless, generate_instance_uid=False)
    with pytest.warns(UserWarning, match="size of a pixel is unknown"):
        volume = Volume.read(save(data, tmp_path / "us.dcm"))
    assert volume.modality == "RGB"
    assert np.abs(volume.array.astype(int) - values).max() <= tolerance


def test_damaged_compressed_pixels_are_named(tmp_path: Path) -> None:
    write_slices(tmp_path / "d", stored(0, (7, 64, 60)))
    for path in (tmp_path / "d").iterdir():
        _itk_compressed(path, "JPEG")
    whole = (tmp_path / "d" / "s004.dcm").read_bytes()
    (tmp_path / "d" / "s004.dcm").write_bytes(whole[: len(whole) - 3000])
    with pytest.raises(FileFormatError, match=r"s004\.dcm could not be read"):
        Volume.read(tmp_path / "d")


def test_too_few_pixels(tmp_path: Path) -> None:
    data = picture(stored(0, (12, 10)), "DX", **_SPACED)
    data.Rows = 13
    with pytest.raises(FileFormatError, match="240 bytes of pixels, 1 frames of 260 bytes are needed"):
        Volume.read(save(data, tmp_path / "x.dcm"))


def test_skewed_orientation_is_no_orientation(tmp_path: Path) -> None:
    data = picture(stored(0, (12, 10)))
    place(data, np.eye(4), 0)
    data.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    with pytest.raises(FileFormatError, match="no pair of unit vectors at right angles"):
        Volume.read(save(data, tmp_path / "x.dcm"))
