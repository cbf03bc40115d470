"""NIfTI, Analyze, MGH and MINC files through nibabel; world axes are RAS."""

from __future__ import annotations

import gzip
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.image.io.reading import check_gzip, check_room, chosen, explained, is_gzip
from limnet.image.volume import Volume

_LABELS = (1002, 1005)  # intent codes of label maps: numbers of a set of labels, of parts of the brain
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # spatial codes of xyzt_units: metre, millimetre, micrometre
_NIFTI2_HEADER = 540  # bytes
_PIECE = 1 << 20  # bytes read at once


def read_nibabel(path: Path, index: int | None = None) -> Volume:
    """Read .nii, .nii.gz, .hdr with .img (NIfTI pair or Analyze), .mgh, .mgz or .mnc (MINC).

    Intensities are scaled as the header says. Axis 0 of the array is the file's slowest axis. Warns of Analyze, which
    does not say where left and right are.
    """
    import nibabel

    with explained(path):
        try:
            image = nibabel.load(path, mmap=False)
        except ImportError as error:  # MINC 2
            raise InputError(f"reading {path} needs h5py, which is not installed; run: pip install h5py") from error
        return from_file(image, path, index)


def from_file(image: Any, path: Path, index: int | None = None) -> Volume:
    """Volume of an image that nibabel opened from a file, after a look at sizes and checksums."""
    with explained(path):
        check_voxels(image, path)
        volume = from_nibabel(image, path, index)
        for file in _files(image) - {_voxel_file(image)}:  # that one was read to its end
            check_gzip(file)
    return volume


def from_nibabel(image: Any, path: Path | None, index: int | None = None) -> Volume:
    """Volume of a nibabel image with three axes of space, on the grid that reading it from a file gives."""
    import nibabel
    from nibabel.minc1 import Minc1Image  # MINC 2 derives from it

    name = path or Path(f"the {type(image).__name__}")
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        raise FileFormatError(f"{name} is no image of voxels by its content but {type(image).__name__}")
    shape = image.shape
    if len(shape) < 3:
        raise InputError(f"{name} holds a {len(shape)}-D image {shape}: limnet works on volumes of slices")
    if isinstance(image, Minc1Image):  # the only one whose first axis is the slowest
        first = len(shape) - 3
        number = chosen(name, math.prod(shape[:first]), index)
        array = np.asarray(image.dataobj).reshape(-1, *shape[first:])[number]
        array = _narrow(array) if array.dtype == np.float64 else array
        affine = np.array(image.affine)[:, [2, 1, 0, 3]]
        return Volume.from_array(array, affine=affine, convention="RAS", source=path)
    more = [n for n in shape[3:] if n != 1]
    if len(more) > 1:
        raise InputError(
            f"{name} has {len(shape)} axes {shape}: at most one beyond the three of space can be chosen from"
        )
    number = chosen(name, more[0] if more else 1, index)
    file = None if path is None else _voxel_file(image)
    array = _voxels(image, tuple(number if n != 1 else 0 for n in shape[3:]), file)
    modality = None
    if isinstance(image, nibabel.Nifti1Pair):
        affine, header = affine_of(image, name), bytes(image.header.binaryblock)
        modality = "SEG" if int(image.header["intent_code"]) in _LABELS else None
    else:
        affine, header = image.affine, None
        if isinstance(image, nibabel.AnalyzeImage):
            warnings.warn(
                f"{name} is in the Analyze format, which does not say where left and right are: rows are taken to run "
                "from the patient's right to the left where the file has no matrix. Convert it to NIfTI to be certain"
            )
    return Volume.from_array(array, affine=affine, convention="RAS", modality=modality, source=path, header=header)


def write_nifti(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write a (D, H, W) array; a volume from NIfTI keeps its header: codes, both transforms, units.

    Other volumes get sform and qform code 1 in RAS mm; a sheared grid (tilted gantry) only the sform, since a qform
    cannot hold it.
    """
    import nibabel

    voxels = array.transpose(2, 1, 0)
    if isinstance(volume.header, bytes):
        wide = len(volume.header) == _NIFTI2_HEADER
        header = (nibabel.Nifti2Header if wide else nibabel.Nifti1Header)(volume.header, check=False)
        header["magic"] = header.single_magic  # the image may have been a pair
        header.set_data_dtype(voxels.dtype)
        header.set_slope_inter(1, 0)
        header["vox_offset"] = 0
        header["cal_min"] = header["cal_max"] = 0
        image = (nibabel.Nifti2Image if wide else nibabel.Nifti1Image)(voxels, None, header)
    else:
        affine = volume.affine_in("RAS")
        image = (nibabel.Nifti2Image if max(voxels.shape) > 32767 else nibabel.Nifti1Image)(voxels, affine)
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        image.set_sform(affine, 1)
        if np.allclose(axes.T @ axes, np.eye(3), atol=1e-5):
            image.set_qform(affine, 1)
        else:
            image.set_qform(affine, 0, strip_shears=True)
        image.header.set_xyzt_units("mm")
    image.to_filename(path)


def write_mgh(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write a (D, H, W) array as .mgh or .mgz; labels above 255 as int32, as the format knows no unsigned 16 bits."""
    import nibabel

    voxels = array.transpose(2, 1, 0)
    voxels = voxels.astype(np.int32) if voxels.dtype == np.uint16 else voxels
    nibabel.MGHImage(voxels, volume.affine_in("RAS")).to_filename(path)


def check_voxels(image: Any, path: Path) -> None:
    """Refuse a header that promises more voxels than the file has room for; see `check_room`."""
    proxy = image.dataobj
    if not hasattr(proxy, "offset"):
        return
    needed = math.prod(image.shape) * image.get_data_dtype().itemsize
    file = Path(image.file_map["image"].filename)
    held = file.stat().st_size - int(proxy.offset)
    trailer = file.suffix.lower() == ".mgh"  # scanner settings follow the voxels
    packed = is_gzip(file)
    check_room(path, needed, file.stat().st_size if packed else min(held, needed) if trailer else held, packed)


def _files(image: Any) -> set[Path]:
    """Files that make up the image; a pair may have a .mat or not."""
    paths = {Path(holder.filename) for holder in image.file_map.values() if holder.filename}
    return {path for path in paths if path.exists()}


def _voxel_file(image: Any) -> Path | None:
    """File of the voxels, if they lie there as an array; None for formats with a scaling of their own."""
    from nibabel.arrayproxy import ArrayProxy

    return Path(image.file_map["image"].filename) if type(image.dataobj) is ArrayProxy else None


def _voxels(image: Any, place: tuple[int, ...], file: Path | None) -> NDArray[Any]:
    """Array in file order reversed; integers stay so where the scaling allows, other scaled ones become float32.

    `place` has the indices along the axes beyond the three of space; `file` is read to its end, None lets nibabel read.
    """
    from nibabel.arrayproxy import ArrayProxy

    proxy, where, slope, intercept = image.dataobj, (Ellipsis, *place), 1.0, 0.0
    stored = proxy.dtype if isinstance(proxy, np.ndarray) else image.header.get_data_dtype()
    if type(proxy) is ArrayProxy:
        slope, intercept = float(proxy.slope), float(proxy.inter)
        raw = proxy.get_unscaled()[where] if file is None else _stored(proxy, place, file)
    else:
        raw = np.asarray(proxy[where] if place else proxy)
    raw = raw.T
    if stored.names:  # RGB24, RGBA32: colour as a record
        return np.stack([raw[name] for name in stored.names[:3]], axis=-1)
    if (slope, intercept) != (1.0, 0.0):
        return _scaled(raw, slope, intercept)
    return _narrow(raw) if raw.dtype.kind == "f" and stored.kind in "iu" else raw


def _stored(proxy: Any, place: tuple[int, ...], file: Path) -> NDArray[Any]:
    """Voxels as they are in a file, in the byte order of this computer."""
    from nibabel.fileslice import fileslice

    with gzip.open(file) if is_gzip(file) else open(file, "rb") as stream:
        if place:
            where = (Ellipsis, *place)
            raw = fileslice(stream, where, proxy.shape, proxy.dtype, proxy.offset, proxy.order)
        else:
            raw = np.empty(proxy.shape, proxy.dtype, proxy.order)
            left = memoryview(raw.reshape(-1, order=proxy.order).view(np.uint8).data)
            stream.seek(proxy.offset)
            while left:  # in pieces: gzip makes a copy of what it is asked for at once
                if not (count := stream.readinto(left[:_PIECE])):
                    raise OSError(f"{left.nbytes} bytes of voxels are missing")
                left = left[count:]
        while isinstance(stream, gzip.GzipFile) and stream.read(_PIECE):
            pass
    if raw.dtype.isnative or not raw.flags.writeable:
        return raw
    return raw.byteswap(inplace=True).view(raw.dtype.newbyteorder("="))


def _scaled(raw: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Stored values times slope plus intercept, slice by slice: no copy of all of them but the result.

    Integers whose scaling is whole stay integers; other scaled ones become float32, where their values allow.
    """

    def values(part: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = part.astype(np.float64) * slope + intercept
        return found

    dtype: Any = np.float64
    whole = raw.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    if raw.dtype.kind in "iu" and raw.size:
        low, high = sorted(values(np.array([raw.min(), raw.max()], raw.dtype)).tolist())
        fits = [t for t in (np.int16, np.int32) if whole and np.iinfo(t).min <= low and high <= np.iinfo(t).max]
        dtype = fits[0] if fits else np.float32 if max(-low, high) <= float(np.finfo(np.float32).max) else np.float64
        whole = bool(fits)
    in_place = raw.flags.writeable and np.dtype(dtype).itemsize == raw.dtype.itemsize
    result = raw.view(dtype) if in_place else np.empty_like(raw, dtype)
    for target, part in zip(result, raw, strict=True):
        found = values(part)
        target[...] = np.rint(found) if whole else found
    return result


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """As float32, unless values are too large for it."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(np.isfinite(narrow), np.isfinite(array)) else array


def affine_of(image: Any, path: Path) -> NDArray[np.float64]:
    """First usable of sform, qform and voxel sizes, in mm; the missing step of a single slice becomes 1 mm."""
    header = image.header
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    sources = [header.get_sform] if int(header["sform_code"]) > 0 else []
    if int(header["qform_code"]) > 0:
        sources.append(header.get_qform)
    for source in (*sources, header.get_base_affine):
        affine = np.array(source(), dtype=np.float64)
        affine[:3] *= scale
        for axis, length in enumerate(image.shape[:3]):
            if length == 1 and not affine[:3, axis].any():
                first, second = (affine[:3, a] for a in range(3) if a != axis)
                normal = np.cross(first, second)
                affine[:3, axis] = normal / max(float(np.linalg.norm(normal)), 1e-12)
        norms = np.linalg.norm(affine[:3, :3], axis=0)
        if np.isfinite(affine).all() and norms.min() > 0 and abs(np.linalg.det(affine[:3, :3] / norms)) >= 1e-6:
            if sources and source == header.get_base_affine:
                warnings.warn(
                    f"{path} has a grid that cannot be right (sform {header.get_sform()[:3].tolist()}): "
                    "orientation and position are unknown, only the voxel sizes count. Repair its header"
                )
            return affine
    sizes, sform = [float(step) for step in header.get_zooms()[:3]], header.get_sform()[:3].tolist()
    raise FileFormatError(
        f"{path} has no usable grid: voxel sizes {sizes}, sform {sform}. Repair its header, or load the array yourself "
        "and give spacing="
    )


class NiftiGrid(NamedTuple):
    """Shape (D, H, W), axis 0 the file's slowest, and affine (4, 4) from reversed array index to RAS mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def read_nifti_grid(path: Path) -> NiftiGrid:
    """Shape and affine by the header alone; raises FileFormatError, and InputError for fewer than three axes."""
    import nibabel

    with explained(path):
        image: Any = nibabel.load(path, mmap=False)
        if not isinstance(image, nibabel.Nifti1Image):
            raise FileFormatError(f"{path} is no NIfTI file by its content but {type(image).__name__}")
        check_voxels(image, path)
        if len(image.shape) < 3:
            raise InputError(f"{path} holds a {len(image.shape)}-D image {image.shape}: a volume needs three axes")
        width, height, depth = (int(n) for n in image.shape[:3])
        return NiftiGrid((depth, height, width), affine_of(image, path))
