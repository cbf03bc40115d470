"""NIfTI-1 and NIfTI-2 single files, .nii and .nii.gz, through nibabel."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.volume import Volume
from limnet.volume_io.choice import chosen

_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # spatial codes of xyzt_units: metre, millimetre, micrometre
_GZIP = b"\x1f\x8b"


def read_nifti(path: Path, index: int | None = None) -> Volume:
    """Read (k, j, i) = (slowest .. fastest) voxels, intensities scaled by scl_slope and scl_inter where set.

    Args:
        path: the file.
        index: which volume of a 4-D file.

    Raises:
        FileFormatError: damaged or truncated.
        InputError: several volumes and no index, or fewer than three axes.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path, mmap=False)
        if not isinstance(image, nibabel.Nifti1Image):
            raise FileFormatError(f"{path} is no NIfTI file by its content but {type(image).__name__}")
        shape = image.shape
        if len(shape) < 3:
            raise InputError(f"{path} holds a {len(shape)}-D image {shape}: limnet works on volumes of slices")
        more = [n for n in shape[3:] if n != 1]
        if len(more) > 1:
            raise InputError(
                f"{path} has {len(shape)} axes {shape}: at most one beyond the three of space can be chosen from"
            )
        number = chosen(path, more[0] if more else 1, index)
        place = tuple(number if n != 1 else 0 for n in shape[3:])
        array = _voxels(image, place)
        affine = affine_of(image, path)
        header = bytes(image.header.binaryblock)
        check_sum(path)
    except (FileFormatError, InputError):
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        OverflowError,
        MemoryError,
        zlib.error,
        ImageFileError,
        HeaderDataError,
    ) as error:
        raise FileFormatError(f"{path} could not be read: {reason_of(path, error)}") from error
    return Volume.from_array(array, affine=affine, convention="RAS", source=path, header=header)


def write_nifti(volume: Volume, array: NDArray[Any], path: Path) -> None:
    """Write a (D, H, W) array; a volume from NIfTI keeps its header: codes, both transforms, units.

    Other volumes get sform and qform code 1 in RAS mm; a sheared grid (tilted gantry) only the sform, since a qform
    cannot hold it.
    """
    import nibabel

    voxels = array.transpose(2, 1, 0)
    if isinstance(volume.header, bytes):
        wide = len(volume.header) == 540
        header = (nibabel.Nifti2Header if wide else nibabel.Nifti1Header)(volume.header)
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


def _voxels(image: Any, place: tuple[int, ...]) -> NDArray[Any]:
    """Array in file order reversed; integers stay so where the scaling allows, other scaled ones become float32."""
    stored = image.header.get_data_dtype()
    proxy = image.dataobj
    where = (Ellipsis, *place)
    if stored.names:  # RGB24, RGBA32: colour as a record
        record = np.asarray(proxy[where]).T
        return np.stack([record[name] for name in stored.names[:3]], axis=-1)
    slope, intercept = float(proxy.slope), float(proxy.inter)
    if (slope, intercept) == (1.0, 0.0):
        array = np.asarray(proxy[where] if place else proxy)
    elif place:
        array = np.asarray(proxy[where])
    else:
        array = np.asarray(proxy, dtype=np.float32 if stored.itemsize <= 2 else np.float64)
    array = np.asarray(array).T
    if array.dtype.kind == "f" and stored.kind in "iu":
        return _compact(array, slope.is_integer() and intercept.is_integer())
    return array


def _compact(array: NDArray[Any], whole: bool) -> NDArray[Any]:
    if whole and array.size:
        low, high = array.min(), array.max()
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return np.rint(array).astype(dtype)
    return array.astype(np.float32)


def check_sum(path: Path) -> None:
    """Read a gzip file to its end, where its checksum is; nibabel stops at the last voxel. Raises what gzip raises."""
    with open(path, "rb") as file:
        if file.read(2) != _GZIP:
            return
    with gzip.open(path) as unpacked:
        while unpacked.read(1 << 22):
            pass


def affine_of(image: Any, path: Path) -> NDArray[np.float64]:
    """First usable of sform, qform and voxel sizes, in mm; the missing step of a single slice becomes 1 mm."""
    header = image.header
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    candidates = [header.get_sform()] if int(header["sform_code"]) > 0 else []
    if int(header["qform_code"]) > 0:
        candidates.append(header.get_qform())
    candidates.append(header.get_base_affine())
    for candidate in candidates:
        affine = np.array(candidate, dtype=np.float64)
        affine[:3] *= scale
        for axis, length in enumerate(image.shape[:3]):
            if length == 1 and not affine[:3, axis].any():
                first, second = (affine[:3, a] for a in range(3) if a != axis)
                normal = np.cross(first, second)
                affine[:3, axis] = normal / max(float(np.linalg.norm(normal)), 1e-12)
        norms = np.linalg.norm(affine[:3, :3], axis=0)
        if np.isfinite(affine).all() and norms.min() > 0 and abs(np.linalg.det(affine[:3, :3] / norms)) >= 1e-6:
            return affine
    raise FileFormatError(
        f"{path} has no usable grid: voxel sizes {header.get_zooms()[:3]}, sform {header.get_sform()[:3].tolist()}. "
        "Repair its header, or load the array yourself and give spacing="
    )


def reason_of(path: Path, error: Exception) -> str:
    """Why a NIfTI file could not be read, in words for its owner: empty, wrongly named, or cut short."""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError as denied:
        return str(denied)
    if not start:
        return "the file is empty. Copy or download it again"
    named = path.name.lower().endswith(".gz")
    if named != (start == _GZIP):
        return f"it is {'not ' if named else ''}gzip-compressed. Rename it to {'.nii' if named else '.nii.gz'}"
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"it is cut short or damaged ({detail}). Copy or download it again"
