"""Pixels of planes in the units of the file (HU, activity, gray): read, rescaled plane by plane, stacked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError
from limnet.image.io.dicom.planes import ADVICE, DEFLATED, PIXELS, Plane, count_frames, numbers, text
from limnet.image.io.reading import explained

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_QUANTITIES = {"CT", "MR", "PT", "NM", "RTDOSE"}  # values measure something: MONOCHROME1 is a matter of display only
_IMPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_NATIVE = {_IMPLICIT, "1.2.840.10008.1.2.1", _BIG, DEFLATED}


def read_pixels(planes: Sequence[Plane]) -> NDArray[Any]:
    """(D, H, W) or (D, H, W, 3) of planes of one size, rescaled by what each of them says.

    Integers stay integers of the smallest type that holds whatever the files could hold; real slopes give float32.
    Raises FileFormatError for pixels that are cut short, damaged, or of several kinds in one volume.
    """
    kinds = [_kind(plane) for plane in planes]
    color = {kind.ndim for kind in kinds}
    if len(color) > 1:
        raise FileFormatError(
            f"{planes[0].file.parent}: some slices are gray and some in colour. Copy those of one kind to a folder"
        )
    shape = (len(planes), *planes[0].shape)
    if 3 in color:
        result: NDArray[Any] = np.empty((*shape, 3), np.result_type(*(kind.dtype for kind in kinds)))
    else:
        result = np.empty(shape, _result_type(kind.dtype for kind in kinds))
    stored = _Stored()
    for i, plane in enumerate(planes):
        result[i] = _rescaled(plane, stored[plane], result.dtype)
    return result


def same_pixels(one: Plane, two: Plane) -> bool:
    """Whether two planes hold the same stored values."""
    stored = _Stored()
    return one.shape == two.shape and bool(np.array_equal(stored[one], stored[two]))


def _kind(plane: Plane) -> NDArray[Any]:
    """An empty array of the type and number of axes that the plane's values have."""
    header = plane.header
    if _samples(header) == 3 or text(header, "PhotometricInterpretation") == "PALETTE COLOR":
        return np.empty((0, 0, 3), np.uint8 if int(header.BitsAllocated) <= 8 else np.uint16)
    stored = _stored_type(header)
    if "ModalityLUTSequence" in header:
        return np.empty((0, 0), np.float32)
    slope, intercept = _scale(header)
    if stored.kind == "f" or (slope == 1 and intercept == 0):
        return np.empty((0, 0), stored)
    if slope != int(slope) or intercept != int(intercept):
        return np.empty((0, 0), np.float32)
    bits = int(header.BitsStored)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if stored.kind == "i" else (0, (1 << bits) - 1)
    ends = sorted((low * int(slope) + int(intercept), high * int(slope) + int(intercept)))
    unsigned = ends[0] >= 0
    for name in ("uint8", "uint16", "uint32") if unsigned else ("int8", "int16", "int32"):
        if np.iinfo(name).min <= ends[0] and ends[1] <= np.iinfo(name).max:
            return np.empty((0, 0), name)
    return np.empty((0, 0), np.float32)


def _result_type(types: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    found = np.result_type(*set(types))
    return np.dtype(np.float32) if found == np.float64 else found


def _stored_type(header: Dataset) -> np.dtype[Any]:
    if "DoubleFloatPixelData" in header:
        return np.dtype(np.float64)
    if "FloatPixelData" in header:
        return np.dtype(np.float32)
    signed = int(header.get("PixelRepresentation") or 0)
    return np.dtype(f"{'i' if signed else 'u'}{max(1, int(header.BitsAllocated) // 8)}")


def _samples(header: Dataset) -> int:
    return int(header.get("SamplesPerPixel") or 1)


def _scale(header: Dataset) -> tuple[float, float]:
    """Slope and intercept; dose has a slope of another name."""
    slope, intercept = numbers(header, "RescaleSlope", 1), numbers(header, "RescaleIntercept", 1)
    if slope is None:
        slope = numbers(header, "DoseGridScaling", 1)
    if slope is None or slope[0] == 0:  # a slope of 0 is a field left empty: it would wipe the image out
        return 1.0, 0.0 if intercept is None else float(intercept[0])
    return float(slope[0]), 0.0 if intercept is None else float(intercept[0])


def _rescaled(plane: Plane, stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    header = plane.header
    if stored.ndim == 3:
        return stored
    if text(header, "PhotometricInterpretation") == "MONOCHROME1" and text(header, "Modality") not in _QUANTITIES:
        bits = int(header.BitsStored)
        stored = -1 - stored if stored.dtype.kind == "i" else np.asarray((1 << bits) - 1 - stored, stored.dtype)
    if "ModalityLUTSequence" in header:
        from pydicom.pixels import apply_modality_lut

        return np.asarray(apply_modality_lut(stored, header))
    slope, intercept = _scale(header)
    if slope == 1 and intercept == 0:
        return stored
    if dtype.kind == "f":
        return stored.astype(np.float64) * slope + intercept
    values = stored.astype(dtype)
    if slope != 1:
        values *= int(slope)
    values += int(intercept)
    return values


class _Stored:
    """Stored values of planes; a file that has to be decoded as a whole is kept until another one comes."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._frames: NDArray[Any] = np.empty(0)

    def __getitem__(self, plane: Plane) -> NDArray[Any]:
        """(H, W) or (H, W, 3) as stored, colours as RGB."""
        with explained(plane.file, ADVICE):
            return self._read(plane)

    def _read(self, plane: Plane) -> NDArray[Any]:
        header = plane.of
        if _samples(header) not in (1, 3):
            raise ValueError(f"{_samples(header)} samples for each pixel")
        if _syntax(header) in _NATIVE:
            return _masked(header, _color(header, _native(plane)))
        if plane.file != self._file:
            self._frames, self._file = _decoded(plane), plane.file
        frame = self._frames[plane.frame]
        return frame if frame.ndim == 3 else _masked(header, _color(header, frame))


def _syntax(header: Dataset) -> str:
    return str(getattr(header.file_meta, "TransferSyntaxUID", "") or _IMPLICIT)


def _native(plane: Plane) -> NDArray[Any]:
    """One frame of uncompressed pixels; only its bytes are read."""
    header = plane.of
    keyword = next(k for k in PIXELS if k in header)
    dtype = _stored_type(header)
    if header.get("BitsAllocated") not in (8, 16, 32, 64):
        raise ValueError(f"{header.get('BitsAllocated')} bits for each pixel")
    if _syntax(header) == _BIG:
        dtype = dtype.newbyteorder(">")
    rows, columns = plane.shape
    if text(header, "PhotometricInterpretation") == "YBR_FULL_422":
        raise ValueError("uncompressed YBR_FULL_422 colours are not supported")
    count = rows * columns * _samples(header)
    start = plane.frame * count * dtype.itemsize
    held: Any = header.get_item(keyword, keep_deferred=True)
    if held.value is None and _syntax(header) != DEFLATED:
        with open(plane.file, "rb") as file:
            file.seek(held.value_tell + start)
            pixels = np.fromfile(file, dtype, count)
    else:
        pixels = np.frombuffer(_element(plane, keyword), dtype, count, start)
    if pixels.size < count:
        raise ValueError("pixels are missing")
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    if _samples(header) == 1:
        return pixels.reshape(rows, columns)
    if int(header.get("PlanarConfiguration") or 0):
        return np.moveaxis(pixels.reshape(3, rows, columns), 0, -1)
    return pixels.reshape(rows, columns, 3)


def _element(plane: Plane, keyword: str) -> bytes:
    """The bytes of the pixel element, read from the file if they were left there."""
    import pydicom

    value = plane.of.get_item(keyword, keep_deferred=True).value  # type: ignore[union-attr]
    if value is None:
        value = pydicom.dcmread(plane.file, specific_tags=[keyword], force=True)[keyword].value
    return bytes(value)


def _masked(header: Dataset, pixels: NDArray[Any]) -> NDArray[Any]:
    """Without the bits that are not part of the value, such as overlays in the upper four of sixteen."""
    if pixels.dtype.kind == "f" or pixels.ndim == 3:
        return pixels
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    high = int(header.HighBit) if "HighBit" in header else stored - 1
    if stored == allocated or not 0 < stored <= high + 1 <= allocated:
        return pixels
    return np.asarray((pixels << (allocated - 1 - high)) >> (allocated - stored), pixels.dtype)


def _color(header: Dataset, pixels: NDArray[Any]) -> NDArray[Any]:
    """RGB of palettes and luminance-chrominance pixels; others as they are."""
    meaning = text(header, "PhotometricInterpretation")
    if meaning == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colors = np.asarray(apply_color_lut(pixels, header))[..., :3]
        narrow = int(header.BitsAllocated) <= 8
        return np.asarray(colors >> 8, np.uint8) if colors.dtype == np.uint16 and narrow else colors
    if pixels.ndim == 3 and meaning == "YBR_FULL":
        from pydicom.pixels import convert_color_space

        return np.asarray(convert_color_space(pixels, "YBR_FULL", "RGB"))
    return pixels


def _decoded(plane: Plane) -> NDArray[Any]:
    """(N, H, W[, 3]) of all frames of a compressed file, by GDCM.

    GDCM gets a bare picture with the same compressed bytes: from the file itself it would rescale all frames by the
    slope of the first and turn MONOCHROME1 around.
    """
    import SimpleITK
    from pydicom.dataset import Dataset, FileMetaDataset

    header = plane.of
    bare = Dataset()
    for keyword in (
        "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames",
    ):  # fmt: skip
        if keyword in header:
            bare[keyword] = header[keyword]
    if _samples(header) == 1:
        bare.PhotometricInterpretation = "MONOCHROME2"
    count, samples = count_frames(header), _samples(header)
    kind = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture: single, gray byte, gray word, true colour
    if count > 1:
        kind += ".4" if samples == 3 else ".2" if int(header.BitsAllocated) <= 8 else ".3"
    bare.SOPClassUID, bare.SOPInstanceUID = kind, "1.2.3"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    bare.PixelData = _element(plane, "PixelData")
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))
    array = array.reshape(count, *plane.shape, *((3,) if samples == 3 else ()))
    if samples == 1:
        array = array.astype(_stored_type(header), copy=False)
    return np.asarray(array)
