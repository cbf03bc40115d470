"""Masks from files: a label map is used only where it surely lies on the grid of the volume."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError, InputTypeError
from limnet.image.io.itk import itk_affine, itk_grid
from limnet.image.io.segments import check_choice, read_dicom_segments
from limnet.image.volume import ItkGrid, Volume

_TOLERANCE = 0.25  # voxels between corners that are the same: headers round; corner taken for centre is half a voxel
_SHOWN = 12  # labels named in a message


def read_mask(path: str | os.PathLike[str], volume: Volume, label: int | None = None) -> NDArray[np.bool_]:
    """Read a mask that lies on the grid of a volume.

    A mask on the same grid whose axes are stored in another order or direction is turned, voxel by voxel; nothing is
    ever resampled. NumPy files say nothing of where they lie: they are taken in the order of the volume's axes if the
    shape is the same (and the spacing, where a .npz file has one).

    Args:
        path: any file that `Volume.read` reads, with whole numbers as voxels; a DICOM SEG or RTSTRUCT.
        volume: whose grid the mask has to have.
        label: which label of a map with several; by default the only one there is.

    Returns:
        (D, H, W) bool, True where the file has the label.

    Raises:
        MissingFileError: nothing there.
        FileFormatError: damaged, or no label map (fractions, colour).
        InputError: another grid, several labels and no `label`, or a `label` that is not in the file.
    """
    path = Path(path)
    segments = read_dicom_segments(path, volume)
    if segments is not None:
        check_label(label)
        return check_choice(segments, label, str(path))
    return chosen_label(read_labels(path, volume), label, str(path))


def read_labels(path: str | os.PathLike[str], volume: Volume) -> NDArray[Any]:
    """All labels of a file, (D, H, W) integers on the grid of a volume; see `read_mask`, which has the same errors."""
    path = Path(path)
    return _numpy_labels(path, volume) if path.suffix.lower() in (".npy", ".npz") else _labels(path, volume)


def chosen_label(labels: NDArray[Any], label: int | None, what: str = "the mask") -> NDArray[np.bool_]:
    """Where a label map has one label; by default the only one it has, 0 apart.

    Raises:
        InputTypeError: `label` is no integer.
        InputError: `label` is 0 or not in the map, or it is needed.
    """
    check_label(label)
    there = [int(value) for value in np.unique(labels) if value != 0]
    named = ", ".join(map(str, there[:_SHOWN])) + (", ..." if len(there) > _SHOWN else "")
    if label is None:
        if len(there) > 1:
            raise InputError(f"{what} holds {len(there)} labels ({named}): say which one is meant, label={there[0]}")
        return np.asarray(labels != 0)
    if int(label) not in there:
        raise InputError(f"{what} has no label {label}: it has {named or 'none, it is empty'}")
    return np.asarray(labels == label)


def check_label(label: Any) -> None:
    """Refuse what is neither None nor an integer, with InputTypeError."""
    if label is not None and (isinstance(label, (bool, np.bool_)) or not isinstance(label, (int, np.integer))):
        raise InputTypeError(f"label must be an integer such as 1, got {label!r}")


def on_grid(array: NDArray[Any], affine: NDArray[np.float64], volume: Volume, what: str = "the mask") -> NDArray[Any]:
    """Turn an array onto the grid of a volume, by swaps and flips of its axes alone.

    Args:
        array: (D, H, W).
        affine: (4, 4), its index (x, y, z) = reversed array index -> world mm in the convention of `volume`.
        volume: whose grid is wanted.
        what: what the array is, for messages.

    Returns:
        A view of the array, its voxels at the same places of the world as those of the volume.

    Raises:
        InputError: the voxels of the two do not lie at the same places; the message says how they differ.
    """
    between = np.linalg.solve(volume.affine, affine)  # index of the mask -> index of the volume, both (x, y, z)
    turn = np.rint(between[:3, :3])
    size = np.array(array.shape[::-1])
    swaps = np.abs(turn)
    proper = np.array_equal(swaps.sum(axis=0), np.ones(3)) and np.array_equal(swaps.sum(axis=1), np.ones(3))
    if proper and tuple((swaps @ size).astype(int)) == volume.shape[::-1]:
        shift = np.where(turn.sum(axis=1) < 0, swaps @ size - 1, 0.0)
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij"), axis=-1).reshape(-1, 3)
        off = corners @ (between[:3, :3] - turn).T + between[:3, 3] - shift
        if np.abs(off).max() <= _TOLERANCE:
            order = [int(np.argmax(row)) for row in swaps]
            flips = tuple(slice(None, None, -1 if row.sum() < 0 else 1) for row in turn)
            return array.transpose(2, 1, 0).transpose(order)[flips].transpose(2, 1, 0)
    raise InputError(
        f"{what} does not lie on the grid of the image: {_difference(array.shape, affine, volume)}. Resample it onto "
        "the image first (nearest neighbour), or give its array if you are sure that the two fit"
    )


def _labels(path: Path, volume: Volume) -> NDArray[Any]:
    read = Volume.read(path)
    if read.is_color:
        raise FileFormatError(f"{path} is a colour image, no mask. Give a file with one whole number for each voxel")
    if isinstance(read.header, ItkGrid):  # written for the place where ITK sees the image
        volume = replace(volume, affine=itk_affine(itk_grid(volume)), convention="LPS")
    return on_grid(_whole(read.array, path), read.affine_in(volume.convention), volume, str(path))


def _numpy_labels(path: Path, volume: Volume) -> NDArray[Any]:
    """The array of a .npy file, or `label` of a .npz file as `Volume.write_mask` writes it."""
    from limnet.image.io.numpy_files import load_label

    array, spacing = load_label(path)
    if array.shape != volume.shape:
        raise InputError(f"{path} has shape {array.shape}, the image {volume.shape}. Give one label for each voxel")
    if spacing is not None and not np.allclose(spacing, volume.spacing, rtol=1e-3):
        raise InputError(
            f"{path} has the spacing {_numbers(spacing)} mm, the image {_numbers(volume.spacing)} mm: "
            "it belongs to another grid. Resample it first"
        )
    return _whole(array, path)


def _whole(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise FileFormatError(f"{path} holds {array.dtype} values, no mask: give whole numbers, 0 for the background")
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise FileFormatError(
            f"{path} holds fractions ({float(np.nanmin(array)):g} to {float(np.nanmax(array)):g}), no labels: "
            "give a mask, such as a probability map > 0.5"
        )
    return array


def _difference(shape: tuple[int, ...], affine: NDArray[np.float64], volume: Volume) -> str:
    """In which ways the grid of a mask is another than the volume's."""
    steps, ours = (np.linalg.norm(a[:3, :3], axis=0) for a in (affine, volume.affine))
    cosines = np.abs((volume.affine[:3, :3] / ours).T @ (affine[:3, :3] / steps))
    nearest = cosines.argmax(axis=1)  # axis of the mask that runs along each axis of the volume
    parts = []
    if sorted(nearest) != [0, 1, 2]:
        nearest = np.arange(3)
    turned = float(np.degrees(np.arccos(np.clip(cosines[np.arange(3), nearest], 0, 1))).max())
    turned_shape = tuple(int(shape[::-1][axis]) for axis in nearest)[::-1]
    if turned_shape != volume.shape:
        parts.append(f"its shape is {turned_shape}, the image's {volume.shape}")
    if not np.allclose(steps[nearest], ours, rtol=1e-3):
        parts.append(f"its spacing is {_numbers(steps[nearest][::-1])} mm, the image's {_numbers(ours[::-1])} mm")
    if turned > 0.05:
        parts.append(f"its axes are turned by {turned:.3g} degrees")
    middles = [a[:3, :3] @ ((np.array(n[::-1]) - 1) / 2) + a[:3, 3] for a, n in ((affine, shape), _grid(volume))]
    apart = float(np.linalg.norm(middles[0] - middles[1]))
    if apart > 1e-3 or not parts:
        parts.append(f"its middle is {apart:.4g} mm away from the image's")
    return ", ".join(parts)


def _grid(volume: Volume) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    return volume.affine, volume.shape


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{float(v):.6g}" for v in values) + ")"
