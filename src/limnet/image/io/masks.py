"""Masks and objects in files (label maps, DICOM SEG and RTSTRUCT): used only where they lie on the image's grid."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet._version import __version__
from limnet.errors import FileFormatError, InputError, InputTypeError, SaveError
from limnet.image.io.atomic import atomic_write
from limnet.image.io.itk import itk_affine, itk_grid
from limnet.image.io.numpy_files import load_npy, load_npz
from limnet.image.io.reading import explained, is_dicom
from limnet.image.volume import ItkGrid, Volume

_UNREADABLE = "what was written does not read back as it should. Nothing was changed; a file that was there is intact"
_TOLERANCE = 0.25  # voxels between corners that are the same: headers round; corner taken for centre is half a voxel
_SHOWN = 12  # labels named in a message


class Segment(NamedTuple):
    """An object in a file: its label from 1, what the user calls it, and its mask, bool (D, H, W)."""

    number: int
    name: str
    mask: NDArray[np.bool_]


class Maker(NamedTuple):
    """What made the masks, as the files say: name of the model, version of the program, a number for the weights."""

    model: str = "limnet"
    version: str = f"limnet {__version__}"
    serial: str = "0"


def write_segments(volume: Volume, segments: list[Segment], path: Path, maker: Maker) -> Path:
    """Write objects, which may overlap, as DICOM SEG (.dcm) or RTSTRUCT (.rtstruct.dcm), atomically; read them back.

    InputError if the volume's images lack what the file has to refer to.
    """
    from limnet.image.io.dicom.rtstruct import write_rtstruct
    from limnet.image.io.dicom.seg import find_sources, write_seg

    sources = find_sources(volume, path, segments)
    write = write_rtstruct if path.name.lower().endswith(".rtstruct.dcm") else write_seg

    def check(written: Path) -> None:
        found = _dicom_segments(written, volume) or []
        if len(found) != len(segments) or any(
            not np.array_equal(one.mask, two.mask) for one, two in zip(found, segments, strict=True)
        ):
            raise SaveError(f"could not save {path}: {_UNREADABLE}")

    return atomic_write(path, lambda temporary: write(sources, segments, temporary, maker), check)


def read_mask(path: str | os.PathLike[str], volume: Volume, label: int | None = None) -> NDArray[np.bool_]:
    """Read a mask, (D, H, W) bool, that lies on the grid of a volume.

    A mask on the same grid whose axes are stored in another order or direction is turned, voxel by voxel; nothing is
    ever resampled. NumPy files say nothing of where they lie: they are taken in the order of the volume's axes if the
    shape is the same (and the spacing, where a .npz file has one).

    Args:
        path: any file that `Volume.read` reads, with whole numbers as voxels; a DICOM SEG or RTSTRUCT.
        label: which label of a map with several; by default the only one there is.

    Raises:
        FileFormatError: damaged, or no label map (fractions, colour).
        InputError: another grid, several labels and no `label`, or a `label` that is not in the file.
    """
    path = Path(path)
    segments = _dicom_segments(path, volume)
    if segments is None:
        return chosen_label(read_labels(path, volume), label, str(path))
    if not segments:
        raise InputError(f"{path} holds no object")
    number = _chosen(label, {s.number: f"{s.number} {s.name!r}" for s in segments}, str(path))
    return next(segment.mask for segment in segments if segment.number == number)


def read_labels(path: Path, volume: Volume) -> NDArray[Any]:
    """All labels of a file, (D, H, W) integers on the grid of a volume; raises as `read_mask`."""
    if path.suffix.lower() in (".npy", ".npz"):
        return _numpy_labels(path, volume)
    read = Volume.read(path)
    if read.is_color:
        raise FileFormatError(f"{path} is a colour image, no mask. Give a file with one whole number for each voxel")
    if isinstance(read.header, ItkGrid):  # written for the place where ITK sees the image
        volume = replace(volume, affine=itk_affine(itk_grid(volume)), convention="LPS")
    return on_grid(_whole(read.array, path), read.affine_in(volume.convention), volume, str(path))


def chosen_label(labels: NDArray[Any], label: int | None, what: str = "the mask") -> NDArray[np.bool_]:
    """Where a label map has one label; by default the only one it has, 0 apart.

    InputTypeError for a `label` that is no integer, InputError if it is not in the map, or needed.
    """
    number = _chosen(label, {int(value): str(value) for value in np.unique(labels) if value != 0}, what)
    return np.asarray(labels != 0 if number is None else labels == number)


def read_segments(path: Path, volume: Volume, names: Mapping[int, str] | None = None) -> Iterator[Segment]:
    """The objects in a file, on the grid of a volume: DICOM SEG, RTSTRUCT, or a label map of any format.

    Masks of a label map are made one at a time: a map of a hundred organs would fill the memory. Its names come from
    `names`, by label, or from the JSON file that `case.save_labels` writes beside it; DICOM has names of its own.
    Raises as `read_mask`.
    """
    found = _dicom_segments(path, volume)
    if found is not None:
        yield from found
        return
    labels, names = read_labels(path, volume), {**_names(path), **(names or {})}
    for number in (int(number) for number in np.unique(labels) if number != 0):
        yield Segment(number, names.get(number, f"label {number}"), labels == number)


def _chosen(label: Any, there: Mapping[int, str], what: str) -> int | None:
    """The label that is meant, by default the only one there is; None where there is none."""
    if label is not None and (isinstance(label, (bool, np.bool_)) or not isinstance(label, (int, np.integer))):
        raise InputTypeError(f"label must be an integer such as 1, got {label!r}")
    named = ", ".join([*there.values()][:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
    if label is None:
        if len(there) > 1:
            first = next(iter(there))
            raise InputError(
                f"{what} holds {len(there)} labels ({named}): say which one is meant, label={first} "
                f"(on the command line --label {first})"
            )
        return next(iter(there), None)
    if int(label) not in there:
        raise InputError(f"{what} has no label {label}: it has {named or 'none, it is empty'}")
    return int(label)


def on_grid(array: NDArray[Any], affine: NDArray[np.float64], volume: Volume, what: str = "the mask") -> NDArray[Any]:
    """Turn an array onto the grid of a volume, by swaps and flips of its axes alone: a view.

    Args:
        array: (D, H, W).
        affine: (4, 4), its index (x, y, z) = reversed array index -> world mm in the convention of `volume`.
        what: what the array is, for messages.

    Raises InputError where the voxels of the two do not lie at the same places; the message says how they differ.
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


def _numpy_labels(path: Path, volume: Volume) -> NDArray[Any]:
    """The array of a .npy file, or `label` of a .npz file as `Volume.write_mask` writes it."""
    found = {"label": load_npy(path)} if path.suffix.lower() == ".npy" else load_npz(path, "label", "spacing")
    array, spacing = found["label"], found.get("spacing")
    if array.shape != volume.shape:
        raise InputError(f"{path} has shape {array.shape}, the image {volume.shape}. Give one label for each voxel")
    if spacing is not None and not np.allclose(spacing.ravel(), volume.spacing, rtol=1e-3):
        raise InputError(
            f"{path} has the spacing {_numbers(spacing.ravel())} mm, the image {_numbers(volume.spacing)} mm: "
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


def _dicom_segments(path: Path, volume: Volume) -> list[Segment] | None:
    """The objects in a DICOM SEG or RTSTRUCT, on the grid of a volume; None for every other file."""
    if not path.is_file() or not is_dicom(path):
        return None
    import pydicom

    from limnet.image.io.dicom.planes import ADVICE, quiet
    from limnet.image.io.dicom.rtstruct import RTSTRUCT_CLASS, read_rtstruct
    from limnet.image.io.dicom.seg import SEG_CLASSES, read_seg

    with explained(path, ADVICE), quiet():
        kind = str(pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).get("SOPClassUID"))
        if kind != RTSTRUCT_CLASS and kind not in SEG_CLASSES:
            return None
        header = pydicom.dcmread(path)
        _check_reference(path, header, volume)
        return (read_rtstruct if kind == RTSTRUCT_CLASS else read_seg)(path, header, volume)


def _check_reference(path: Path, header: Any, volume: Volume) -> None:
    """Warn of objects that refer to another frame of reference than the images of the volume."""
    import pydicom

    if not volume.files:
        return
    ours = pydicom.dcmread(volume.files[0], specific_tags=["FrameOfReferenceUID"], stop_before_pixels=True)
    place = next(iter(header.get("ReferencedFrameOfReferenceSequence") or []), header)
    theirs, known = place.get("FrameOfReferenceUID"), ours.get("FrameOfReferenceUID")
    if theirs and known and theirs != known:
        warnings.warn(
            f"{path} refers to another frame of reference than the image: it may be of another patient or examination. "
            "Look whether it fits"
        )


def _names(path: Path) -> dict[int, str]:
    """Label -> name from the JSON file beside a label map; empty where there is none of ours."""
    base = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
    try:
        content = json.loads(path.with_name(f"{base}.json").read_text(encoding="utf-8"))
        return {int(number): str(name) for number, name in content["labels"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


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
    grids = (affine, shape), (volume.affine, volume.shape)
    middles = [a[:3, :3] @ ((np.array(n[::-1]) - 1) / 2) + a[:3, 3] for a, n in grids]
    apart = float(np.linalg.norm(middles[0] - middles[1]))
    if apart > 1e-3 or not parts:
        parts.append(f"its middle is {apart:.4g} mm away from the image's")
    return ", ".join(parts)


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{float(v):.6g}" for v in values) + ")"
