"""Volume: an image with its grid, from memory or from a file, and masks written back onto that grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError, InputTypeError

Convention = Literal["RAS", "LPS"]
Gaps = Literal["refuse", "resample"]
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_LAYOUT = "a volume is (D, H, W): slices, rows, columns; a colour video is (T, H, W, 3)"


class ItkGrid(NamedTuple):
    """Grid of an ITK-type file exactly as stored, x, y, z order: spacing and origin in mm, direction row by row."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


class DicomSlices(NamedTuple):
    """For each slice the number of its file in `Volume.files` and of its frame there, from 0; None if filled."""

    slices: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Selection:
    """What was chosen of a file or folder that holds more than one regular volume: see `Volume.read`."""

    index: int | None = None
    series: str | int | None = None
    gaps: Gaps = "refuse"


@dataclass(frozen=True, eq=False)
class Volume:
    """An image volume and where it lies in the patient. Make one with `Volume.from_array` or `Volume.read`.

    Axis 0 of `array` is the file's slowest axis: voxel (i, j, k) of a NIfTI file is `array[k, j, i]`, the order of
    SimpleITK's `GetArrayFromImage`. Points are (z, y, x) array indices everywhere in limnet.

    Attributes:
        array: (D, H, W) gray or (T, H, W, 3) colour, dtype as in the file (rescaled where the file says so), read-only.
        spacing: mm between voxel centres along the three array axes.
        affine: (4, 4) float64, maps the file's index (x, y, z) = reversed array index to world mm.
        convention: the patient axes of the world: "RAS" (NIfTI) or "LPS" (DICOM, NRRD, MetaImage, plain arrays).
        modality: "CT", "MR", ... in capitals when the source says so, "RGB" for colour, else None (unknown).
        source: the file or folder it was read from, if any.
        header: what the source format needs to write the very same grid again; for the writers in `io`.
        selection: the `index`, `series` and `gaps` it was read with, which session files need to find it again.
        files: DICOM files of the slices, in slice order (one file where it holds them all); else empty.
        filled: slices that no file holds, filled by interpolation with `gaps="resample"`.
    """

    array: NDArray[Any] = field(repr=False)
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    convention: Convention = "LPS"
    modality: str | None = None
    source: Path | None = None
    header: bytes | ItkGrid | DicomSlices | None = field(default=None, repr=False)
    selection: Selection = field(default=Selection(), repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)
    filled: tuple[int, ...] = ()

    @classmethod
    def from_array(
        cls,
        array: ArrayLike,
        spacing: Sequence[float] | None = None,
        *,
        affine: ArrayLike | None = None,
        convention: Convention = "LPS",
        modality: str | None = None,
        source: str | os.PathLike[str] | None = None,
        header: bytes | ItkGrid | DicomSlices | None = None,
        index: int | None = None,
    ) -> Volume:
        """Check an array and wrap it (no copy; do not change the array afterwards).

        Images of SimpleITK, nibabel and MONAI bring their grid: the volume is the one that reading their file gives. A
        SimpleITK image (x, y, z), a nibabel image (i, j, k) of a NIfTI file and a MONAI tensor (X, Y, Z) or
        (C, X, Y, Z) all become (z, y, x), axis 0 the last of theirs. A PyTorch tensor is taken like an array.

        Args:
            array: (D, H, W) raw intensities (HU, MR counts, ...) or (T, H, W, 3) colour; integers or floats. NaN and
                infinite voxels are allowed and shown as the darkest or brightest value. Or an image as above.
            spacing: mm along the three axes of the array; default the affine's, or 1 mm.
            affine: (4, 4), index (x, y, z) = reversed array index -> world mm; default: patient axes, origin 0.
            convention: patient axes of the affine, "RAS" or "LPS".
            modality: "CT" or "MR" when known.
            source: where it came from.
            header: exact grid of the source file, used by the readers.
            index: which volume of a 4-D image, or channel; not for arrays.

        Raises:
            InputTypeError: not a real-valued numeric array (object, bool, complex, text).
            InputError: wrong number of dimensions, no voxels, or a spacing or affine that is no grid.
        """
        if not isinstance(array, np.ndarray):
            from limnet.image.io.objects import plain, volume_of

            found = volume_of(array, index)
            if found is not None:
                return _with(found, spacing, affine, modality)
            array = plain(array)
        if index is not None:
            raise InputError("index chooses from a file or an image with a grid; pass the array you want instead")
        voxels = checked_array(array)
        if convention not in ("RAS", "LPS"):
            raise InputError(f"convention {convention!r} is unknown: use 'RAS' (NIfTI) or 'LPS' (DICOM, ITK)")
        given = None if spacing is None else checked_spacing(spacing)
        if affine is None:
            steps = given or (1.0, 1.0, 1.0)
            matrix = np.diag([*steps[::-1], 1.0])
        else:
            matrix = checked_affine(affine)
            norms = np.linalg.norm(matrix[:3, :3], axis=0)[::-1]
            steps = (float(norms[0]), float(norms[1]), float(norms[2]))
            if given is not None and not np.allclose(given, steps, rtol=1e-3):
                raise InputError(
                    f"spacing {given} and affine disagree: in array order the affine's steps are "
                    f"{tuple(round(s, 6) for s in steps)} mm. Give one of the two"
                )
        matrix.flags.writeable = False
        if voxels.ndim == 4:
            modality = "RGB"
        return cls(
            array=voxels,
            spacing=steps,
            affine=matrix,
            convention=convention,
            modality=None if modality is None else checked_modality(modality),
            source=None if source is None else Path(source),
            header=header,
        )

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        index: int | None = None,
        series: str | int | None = None,
        gaps: Gaps = "refuse",
        *,
        modality: str | None = None,
    ) -> Volume:
        """Read a volume, a picture (a single slice), a video, a DICOM folder or a folder of frames.

        NIfTI (.nii, .nii.gz, .hdr with .img), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), FreeSurfer (.mgh, .mgz),
        Analyze (.hdr with .img), MINC (.mnc), NumPy (.npy, .npz), DICOM (.dcm), pictures (.png, .jpg, .bmp, .tif of one
        page or several), videos (.avi, .mp4, with imageio).

        Args:
            path: the file or folder.
            index: which volume of a file or DICOM series that holds several (4-D, time points, echoes, orientations),
                counted from 0.
            series: which DICOM series of a folder that holds several: its UID, series number or description.
            gaps: what to do with DICOM slices that make no regular grid (slices missing, uneven steps): "refuse" or
                "resample", which fills by linear interpolation; `filled` names the slices that no file holds.
            modality: "CT", "MR", ... where the file does not say it or is wrong; decides the intensity windows.

        Raises:
            MissingFileError: nothing there.
            FileFormatError: damaged, truncated, not what its name says, or no regular grid.
            NotEnoughMemoryError: it does not fit into memory.
            InputError: unknown suffix, or `index`, `series` or `gaps` needed, wrong or not applicable.
        """
        from limnet.image.io.formats import read_volume

        number = int(index) if isinstance(index, Integral) else index  # numpy's would not fit into session files
        selection = Selection(number, series, check_gaps(gaps))
        volume = read_volume(Path(path), selection)
        if modality is not None and not volume.is_color:
            volume = replace(volume, modality=checked_modality(modality))
        return replace(volume, selection=selection)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) without the colour axis: the shape of every mask of this volume."""
        depth, height, width = self.array.shape[:3]
        return depth, height, width

    @property
    def is_color(self) -> bool:
        """Whether voxels are RGB triples."""
        return self.array.ndim == 4

    @cached_property
    def intensity(self) -> Intensity:
        """Intensity statistics and automatic windows; computed once, from a subsample."""
        return Intensity(self.array, self.modality)

    def affine_in(self, convention: Convention) -> NDArray[np.float64]:
        """The affine, file index (x, y, z) -> world mm, with the world axes of `convention`."""
        return self.affine if convention == self.convention else _FLIP @ self.affine

    def to_world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World mm (x, y, z) in the volume's convention of (..., 3) array indices (z, y, x); fractions allowed."""
        points = _points(index, "array indices (z, y, x)")
        return points[..., ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Array indices (z, y, x), unrounded, of (..., 3) world points (x, y, z) in mm, in the volume's convention."""
        points = _points(world, "world points (x, y, z) in mm")
        steps = np.linalg.solve(self.affine[:3, :3], (points - self.affine[:3, 3]).reshape(-1, 3).T)
        return steps.T.reshape(points.shape)[..., ::-1]

    def write_mask(self, mask: ArrayLike, path: str | os.PathLike[str]) -> Path:
        """Write a mask or label map on exactly this volume's grid, atomically.

        Args:
            mask: (D, H, W) bool, or integer labels 0..65535 (stored as uint8, or uint16 if a label exceeds 255).
            path: the suffix chooses the format: .nii, .nii.gz, .nrrd, .mha, .mgz, .npy, .npz (keys `label`, `spacing`),
                .tif (a page for each slice) or .png (one slice). .npy, .tif and .png hold no grid. Of an image from
                DICOM also .dcm (DICOM SEG) and .rtstruct.dcm, with objects named "label 1", ...

        Returns:
            The path written.

        Raises:
            InputError: wrong shape or labels, unknown suffix, or `path` is the image itself.
            SaveError: the file could not be written; what was there before is intact.
        """
        from limnet.image.io.formats import write_labels

        return write_labels(self, checked_labels(mask, self.shape), Path(path))


def check_gaps(gaps: Any) -> Gaps:
    """The value, if it is one of "refuse" and "resample"; raises InputError otherwise."""
    if gaps not in get_args(Gaps):
        raise InputError(f"gaps={gaps!r} is unknown: allowed are {' and '.join(map(repr, get_args(Gaps)))}")
    return cast(Gaps, gaps)


def _with(volume: Volume, spacing: Sequence[float] | None, affine: ArrayLike | None, modality: str | None) -> Volume:
    """A volume that brought its own grid, with what was given beside it."""
    if affine is not None or (spacing is not None and not np.allclose(checked_spacing(spacing), volume.spacing, 1e-3)):
        raise InputError(
            f"the image brings its own grid, spacing {volume.spacing} mm in the order of the array axes: leave out "
            "affine and spacing, or give its array"
        )
    return volume if modality is None else replace(volume, modality=checked_modality(modality))


def checked_array(array: ArrayLike) -> NDArray[Any]:
    """A read-only view (no copy if possible) of an array that limnet can work on; InputError or InputTypeError."""
    try:
        voxels = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputTypeError(
            f"{type(array).__name__} is no numeric array ({error}). Give a numpy array; {_LAYOUT}"
        ) from error
    if voxels.dtype == bool:
        raise InputTypeError(
            "a bool array came: that is a mask, not an image. Give intensities (HU, MR counts, gray values)"
        )
    if voxels.dtype == object and voxels.ndim == 0:
        raise InputTypeError(f"{type(array).__name__} came: give a numpy array, a Volume or a path; {_LAYOUT}")
    if voxels.dtype.kind not in "iuf":
        raise InputTypeError(
            f"dtype {voxels.dtype} came: allowed are integers and floats. Convert with array.astype(numpy.float32)"
        )
    if voxels.ndim != 3 and voxels.shape[3:] != (3,):
        advice = (
            "For a single slice give array[None]" if voxels.ndim == 2 else "Give one volume of it, such as array[0]"
        )
        raise InputError(f"a {voxels.ndim}-D array {voxels.shape} came: {_LAYOUT}. {advice}; drop an alpha channel")
    if voxels.size == 0:
        raise InputError(f"an array without voxels came, shape {voxels.shape}: every axis needs at least one")
    if voxels.dtype.itemsize > 8:
        voxels = voxels.astype(np.float64)
    if not voxels.dtype.isnative:
        voxels = voxels.astype(voxels.dtype.newbyteorder("="))
    voxels = voxels.view()
    voxels.flags.writeable = False
    return voxels


def checked_modality(modality: str) -> str | None:
    """In capitals; None for an empty text. Raises InputTypeError for what is no text."""
    if not isinstance(modality, str):
        raise InputTypeError(f"modality {modality!r} came: expected a text such as 'CT' or 'MR'")
    return modality.strip().upper() or None


def checked_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Three positive finite floats; raises InputError or InputTypeError otherwise."""
    advice = "Give three positive numbers in mm in the order of the array axes, such as (5.0, 0.7, 0.7)"
    try:
        if isinstance(spacing, (str, bytes)):
            raise TypeError("a text")
        values = [float(v) for v in spacing]
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"spacing {spacing!r} came. {advice}") from error
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise InputError(f"spacing {spacing!r} came. {advice}")
    return values[0], values[1], values[2]


def checked_affine(affine: ArrayLike) -> NDArray[np.float64]:
    """A fresh invertible (4, 4) float64 matrix with last row 0 0 0 1; raises InputError or InputTypeError otherwise."""
    advice = "Give a (4, 4) matrix from index (x, y, z) to mm with last row 0 0 0 1"
    try:
        matrix = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"affine {affine!r} is no matrix of numbers. {advice}") from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise InputError(f"affine of shape {matrix.shape} came: {matrix.tolist()}. {advice}")
    norms = np.linalg.norm(matrix[:3, :3], axis=0)
    if norms.min() == 0 or abs(np.linalg.det(matrix[:3, :3] / norms)) < 1e-6:
        raise InputError(
            f"the affine {matrix[:3, :3].tolist()} folds the volume flat: its three columns must span space. {advice}"
        )
    return matrix


def checked_labels(mask: ArrayLike, shape: tuple[int, int, int]) -> NDArray[Any]:
    """A mask of the given shape as uint8, or uint16 where a label exceeds 255; raises InputError or InputTypeError."""
    labels = np.asarray(mask)
    if labels.shape != shape:
        raise InputError(f"the mask has shape {labels.shape}, the volume {shape}. Give one label for each voxel")
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "iu":
        raise InputTypeError(f"the mask has dtype {labels.dtype}: allowed are bool and integer labels 0..65535")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 65535:
        raise InputError(f"the mask has labels {low}..{high}: allowed are 0..65535")
    return labels.astype(np.uint8 if high <= 255 and labels.dtype != np.uint16 else np.uint16)


def _points(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{values!r} came: expected {what}, three numbers each") from error
    if points.ndim == 0 or points.shape[-1] != 3 or not np.isfinite(points).all():
        raise InputError(f"points of shape {points.shape} came: expected {what}, three finite numbers each")
    return points


# intensity windows


Window = tuple[float, float]

SOFT_TISSUE: Window = (-160.0, 240.0)
LUNG: Window = (-1000.0, 400.0)
BONE: Window = (-200.0, 1300.0)
LUNG_BELOW = -350.0  # HU: median around a click under which the lung window is taken
BONE_ABOVE = 350.0  # HU: median around a click over which the bone window is taken
PERCENTILES = (0.5, 99.5)
_FLOOR = -4100.0  # HU: CT is stored from -1024, padded with down to -4096
_FEW = 32  # different values: 827 of 869 open label maps have no more, none of 2,804 open images
_LOOK = 4096  # voxels: too few to say in smaller images
_SAMPLE = 1 << 21  # voxels looked at, whatever the size of the volume


class Intensity:
    """Statistics of (D, H, W) or (T, H, W, 3) values, each computed once and from at most about two million voxels.

    NaN and infinite values are left out. Without a modality ("CT", "MR", ...) the values decide.
    """

    def __init__(self, array: NDArray[Any], modality: str | None = None) -> None:
        self._array = array
        self._modality = modality

    @cached_property
    def sample(self) -> NDArray[np.float64]:
        """Finite values on a regular subgrid, flat; empty if there are none."""
        shape = self._array.shape[:3]
        steps = [1, 1, 1]
        while np.prod([-(-n // s) for n, s in zip(shape, steps, strict=True)]) > _SAMPLE:
            widest = int(np.argmax([n / s for n, s in zip(shape, steps, strict=True)]))
            steps[widest] += 1
        part = self._array[:: steps[0], :: steps[1], :: steps[2]]
        values = np.asarray(part, dtype=np.float64).ravel()
        return values[np.isfinite(values)]

    @cached_property
    def extremes(self) -> Window:
        """Smallest and largest finite value of the sample, of all voxels where that is constant; (0, 0) if none."""
        values = self.sample
        if values.size == 0 or values.min() == values.max():
            whole = self._array
            values = whole[np.isfinite(whole)] if whole.dtype.kind == "f" else whole
            if values.size == 0:
                return 0.0, 0.0
        return float(values.min()), float(values.max())

    @property
    def doubt(self) -> str | None:
        """What speaks against an image: all values are the same, or a few whole numbers; None if nothing does."""
        low, high = self.extremes
        if low == high:
            return f"the same value everywhere ({low:g})" if np.isfinite(self._array).any() else "no finite value"
        if self._array.size < _LOOK:
            return None
        found = np.unique(self.sample[:: 1 + self.sample.size // _LOOK])
        for part in (found, *self._array):  # to the end only where it is none: an image may be nearly empty
            found = np.union1d(found, part)
            if len(found) > _FEW or not np.array_equal(found, np.rint(found)):
                return None
        return f"only {len(found)} different values, all whole, as label maps do"

    @cached_property
    def is_ct(self) -> bool:
        """Whether values are Hounsfield units: the source says so or, where it is silent, they are spread like them."""
        low, high = self.extremes
        if self._array.ndim != 3 or low == high:
            return False
        if self._modality is not None:
            return self._modality.startswith("CT")  # also CTA and the like
        return _like_hounsfield(self.sample)

    @cached_property
    def default_window(self) -> Window:
        """Window of the whole volume, lo < hi always.

        CT: soft tissue, or lung where more than half of the voxels are lung (a crop). Colour: the range of the dtype.
        Otherwise percentiles 0.5 and 99.5 of the voxels that are not background (zero, or a frequent smallest value).
        """
        if self._array.ndim == 4:
            return self._color_window()
        if self.is_ct and self.sample.size:
            inflated = np.mean((self.sample > -950) & (self.sample < -500))
            return LUNG if inflated > 0.5 else SOFT_TISSUE
        return self._robust_window()

    def window_around(self, patch: NDArray[Any]) -> Window:
        """Window for an object surrounded by `patch` (any shape): CT soft tissue, lung or bone; else the default."""
        values = np.asarray(patch, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not self.is_ct or values.size == 0:
            return self.default_window
        median = float(np.median(values))
        if median < LUNG_BELOW:
            return LUNG
        return BONE if median > BONE_ABOVE else SOFT_TISSUE

    def _color_window(self) -> Window:
        dtype = self._array.dtype
        if dtype.kind == "u" and dtype.itemsize <= 2:
            return 0.0, float(np.iinfo(dtype).max)
        low, high = self.extremes
        if low >= 0 and high <= 255:
            return 0.0, 1.0 if dtype.kind == "f" and high <= 1 else 255.0
        return self._robust_window()

    def _robust_window(self) -> Window:
        low, high = self.extremes
        if low == high:
            return low, low + max(1.0, abs(low) * 1e-3)
        values = self.sample
        kept = values[values != 0] if low >= 0 else values
        if kept.size and np.mean(kept == low) > 0.01:
            kept = kept[kept != low]
        for candidate in (kept, values):
            if candidate.size >= 64:
                lo, hi = np.percentile(candidate, PERCENTILES)
                if lo < hi:
                    return float(lo), float(hi)
        return low, high


def _like_hounsfield(values: NDArray[np.float64]) -> bool:
    """Whether values have the two peaks of CT, air or lung and soft tissue, and little else.

    Told apart so are electron microscopy, phase contrast and field maps, which reach as low: they have one peak, are
    symmetric about zero or go far below air. Limits measured on 552 CT volumes and crops, of which all are recognised,
    down to nodules in the lung and organs with a little gas, and on 208 others, of which none is.
    """
    low = float(values.min())
    padded = values == low
    if low < _FLOOR and padded.mean() > 0.001:  # padding of a scanner, such as -8192
        values = values[~padded]
        low = float(values.min()) if values.size else 0.0
        padded = values == low
    if not _FLOOR <= low <= -500:
        return False

    def share(start: float, stop: float) -> float:
        return float(np.mean((values >= start) & (values < stop)))

    below = float(np.mean(values < -1100))
    floor = float(np.mean(padded)) if low < -1100 else 0.0  # voxels outside the scanner's circle
    dark, between = share(-1100, -500) + floor, share(-500, -200)
    soft, bright = share(-200, 200), share(500, 1100)
    two_peaks = dark / 600 >= 0.4 * between / 300  # per HU, dark values are not much rarer than those between the peaks
    return below - floor <= 0.05 and dark >= 0.005 and dark >= 2 * bright and dark + soft >= 0.4 and two_peaks
