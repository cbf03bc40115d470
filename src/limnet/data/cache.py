"""Decoded cases on disk: read once from their own format, memory-mapped ever after.

Layout: `<folder>/<two digits>/<key>/{image.npy, labels.npy, case.json}`. The key comes from what a case is read from
(see `case_key`), so a changed file gets a new entry; a folder appears under its final name only when it is complete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.clips import Source
from limnet.data.dataset import LabelledCase
from limnet.data.files import smallest_unsigned
from limnet.environment import cache_folder
from limnet.errors import FileFormatError, InputError, LimnetError, SaveError
from limnet.image.io.atomic import save_error
from limnet.image.volume import Volume

SMALLEST = 40  # voxels of an object worth a target
_FLAT_MODALITIES = ("photo", "endoscopy", "video")
_THICK = 2.2  # slices this much further apart than pixels are looked at along that axis only
VERSION = 1  # of the layout and of the decoding
_STALE_SECONDS = 24 * 3600.0
GRAYS: dict[str, tuple[float, float, float]] = {
    "luminance": (0.299, 0.587, 0.114),
    "mean": (1 / 3, 1 / 3, 1 / 3),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
"""Name -> shares of red, green and blue; luminance after ITU-R BT.601."""


def case_key(case: LabelledCase) -> str:
    """Name of a case's entry: a hash of its name, its two functions, their arguments, and size and time of their files.

    InputError for a callable that is no `functools.partial` of a module-level function.
    """
    parts = [VERSION, case.name, case.modality, case.window, *map(_identity, (case.read_image, case.read_labels))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class CaseCache:
    """A folder of decoded cases, made if needed; by default `cases` in `limnet.environment.cache_folder()`."""

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = cache_folder() / "cases" if folder is None else Path(folder)

    def path(self, case: LabelledCase) -> Path:
        """Where the entry of a case is, or would be."""
        key = case_key(case)
        return self.folder / key[:2] / key

    def has(self, case: LabelledCase) -> bool:
        """Whether the entry is there and whole."""
        return _whole(self.path(case)) is not None

    def build(self, cases: Sequence[LabelledCase], progress: bool = True) -> int:
        """Decode the cases that are not there yet, one at a time; an interrupted build goes on where it stopped.

        Returns how many were decoded. Raises SaveError where the disk is full or not writable, and FileFormatError for
        cases that could not be read, all of them named; the others are in the cache.
        """
        from rich.progress import track

        missing = [case for case in cases if not self.has(case)]
        if not missing:
            return 0
        failed = []
        for case in track(missing, description="decoding cases", disable=not progress, transient=True):
            try:
                self.add(case)
            except SaveError:
                raise
            except (LimnetError, OSError, ValueError, EOFError) as error:
                failed.append(f"{case.name}: {error}")
        if failed:
            more = f"\n  and {len(failed) - 5} more" if len(failed) > 5 else ""
            raise FileFormatError(
                f"{len(failed)} of {len(cases)} cases could not be read; mend or remove them and start again "
                "(the others stay in the cache):\n  " + "\n  ".join(failed[:5]) + more
            )
        return len(missing)

    def add(self, case: LabelledCase) -> Path:
        """Decode one case and put it in place; whatever was there is replaced."""
        target = self.path(case)
        image, labels, about = decode_case(case)
        temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target.parent)
            temporary.mkdir()
            np.save(temporary / "image.npy", image)
            np.save(temporary / "labels.npy", labels)
            sizes = {name: (temporary / name).stat().st_size for name in ("image.npy", "labels.npy")}
            (temporary / "case.json").write_text(json.dumps({"version": VERSION, "sizes": sizes, **about}))
            if target.exists() and _whole(target) is None:
                shutil.rmtree(target)
            with contextlib.suppress(FileExistsError):
                _move(temporary, target)
        except OSError as error:
            raise save_error(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def open(self, case: LabelledCase) -> Source:
        """The case as a memory-mapped source of clips; FileFormatError if it is not in the cache, or damaged."""
        folder = self.path(case)
        about = _whole(folder)
        if about is None:
            raise FileFormatError(f"{case.name} is not in the cache {self.folder}, or damaged there; build it again")
        image, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "labels"))
        return replace(source_of(image, labels, about), includes=case.includes)


def _whole(folder: Path) -> dict[str, Any] | None:
    """What case.json says, if the entry is complete."""
    try:
        about = json.loads((folder / "case.json").read_text())
        sizes = about["sizes"]
        right = about["version"] == VERSION and all((folder / n).stat().st_size == s for n, s in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return about if right else None


def _move(temporary: Path, target: Path) -> None:
    """Rename a folder; another process may have put the same one there in the meantime."""
    try:
        os.rename(temporary, target)
    except OSError as error:
        if _whole(target) is None:
            raise
        raise FileExistsError(str(target)) from error


def _sweep(folder: Path) -> None:
    """Remove what builds that were killed a day ago or more have left."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _identity(function: Callable[[], Any]) -> list[Any]:
    if not isinstance(function, functools.partial) or "<" in getattr(function.func, "__qualname__", "<"):
        raise InputError(
            f"{function!r} cannot be recognised again: cases are read by functools.partial(function of a module, path)"
        )
    name = f"{function.func.__module__}.{function.func.__qualname__}"
    return [name, *(_plain(value) for value in function.args), _plain(function.keywords)]


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return _file(Path(value))
    if isinstance(value, functools.partial):
        return _identity(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return [[_plain(k), _plain(v)] for k, v in sorted(value.items(), key=lambda item: str(item[0]))]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return repr(value)


def _file(path: Path) -> list[Any]:
    """Path with size and time of the file, or of everything in the folder."""
    try:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            return [str(path.resolve()), [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in inside]]
        about = path.stat()
    except OSError:
        return [str(path), "missing"]
    return [str(path.resolve()), about.st_size, about.st_mtime_ns]


def read_source(case: LabelledCase) -> Source:
    """Read a case from its own files into memory."""
    return replace(source_of(*decode_case(case)), includes=case.includes)


def decode_case(case: LabelledCase) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    """Read a case.

    Gives the image as uint8, int16 or uint16 (D, H, W), HU for CT; labels (D, H, W) in the smallest unsigned dtype; and
    facts as plain JSON: name, modality, spacing, window in units of the image, objects of at least 40 voxels with their
    counts and boxes. Raises FileFormatError for shapes that differ, or labels that are no whole numbers.
    """
    volume, labels = case.read_image(), np.asarray(case.read_labels())
    if labels.shape != volume.shape:
        raise FileFormatError(
            f"case {case.name}: the image is {volume.shape}, its labels are {labels.shape}; both must lie on one grid"
        )
    if labels.dtype.kind not in "iub" or (labels.size and labels.min() < 0):
        raise FileFormatError(f"case {case.name}: labels are {labels.dtype}; whole numbers from 0 are needed")
    pixels = volume.array
    if pixels.ndim == 4:
        pixels = np.stack([mix_channels(frame, GRAYS["luminance"]) for frame in pixels])
    is_ct = case.modality == "ct" or (case.modality == "other" and volume.intensity.is_ct)
    image, scale, offset = few_bits(pixels, keep_units=is_ct)
    labels = smallest_unsigned(labels)
    window = None if case.window is None else [(edge - offset) / scale for edge in case.window]
    return (
        image,
        labels,
        {
            "name": case.name,
            "modality": "ct" if is_ct else case.modality,
            "spacing": [float(s) for s in volume.spacing],
            "window": window,
            "objects": objects_of(labels),
        },
    )


def source_of(image: NDArray[Any], labels: NDArray[Any], about: dict[str, Any]) -> Source:
    """Source from what `decode_case` returned."""
    objects = about["objects"]
    spacing: tuple[float, float, float] = tuple(about["spacing"])
    return Source(
        labels=labels,
        spacing=spacing,
        image=image,
        modality="ct" if about["modality"] == "ct" else "other",
        axes=slice_axes(labels.shape, spacing, about["modality"]),
        name=about["name"],
        ids=tuple(o["id"] for o in objects),
        odds=object_odds([o["count"] for o in objects]),
        boxes={o["id"]: tuple((low, high) for low, high in o["box"]) for o in objects},
        window=None if about["window"] is None else (about["window"][0], about["window"][1]),
    )


def gray_case(case: LabelledCase, name: str) -> LabelledCase:
    """The case with its image in one channel, by a name in `GRAYS`.

    Luminance is left to decoding, which takes it anyhow; CT and MR have no colours.
    """
    if name == "luminance" or case.modality in ("ct", "mr"):
        return case
    return replace(case, read_image=functools.partial(read_gray, case.read_image, GRAYS[name]))


def read_gray(read: Callable[[], Volume], weights: tuple[float, float, float]) -> Volume:
    """An image (D, H, W, 3) as (D, H, W), frame by frame, in the dtype it has; gray ones stay as they are."""
    volume = read()
    if not volume.is_color:
        return volume
    array = np.stack([mix_channels(frame, weights) for frame in volume.array])
    return Volume.from_array(array, affine=volume.affine, convention=volume.convention, source=volume.source)


def mix_channels(frame: NDArray[np.generic], weights: tuple[float, float, float]) -> NDArray[np.generic]:
    """A picture (H, W, 3) as (H, W) in its own dtype, within its own range."""
    mixed = np.tensordot(frame.astype(np.float32), np.array(weights, np.float32), axes=1)
    mixed = np.clip(mixed, float(frame.min()), float(frame.max()))  # type: ignore[type-var]
    return np.rint(mixed).astype(frame.dtype) if frame.dtype.kind in "iu" else mixed


def few_bits(values: NDArray[Any], keep_units: bool = False) -> tuple[NDArray[Any], float, float]:
    """Intensities (D, H, W) as uint8, int16 or uint16, with scale and offset: value = integer * scale + offset.

    Whole numbers that fit are kept. Others are rounded with `keep_units` (HU), else stretched over int16; lone extreme
    values are cut where they would leave the rest no levels. NaN becomes the smallest value.
    """
    if values.dtype in (np.uint8, np.int16, np.uint16):
        return values, 1.0, 0.0
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    whole = values.dtype.kind in "iub" or np.array_equal(values, np.rint(values))
    if whole and low >= -32768 and high <= 32767:
        small = low >= 0 and high <= 255
        return values.astype(np.uint8 if small else np.int16), 1.0, 0.0
    if keep_units:
        return np.clip(np.rint(values), -32768, 32767).astype(np.int16), 1.0, 0.0
    if whole and low >= 0 and high <= 65535:
        return values.astype(np.uint16), 1.0, 0.0
    middle, spread = _bulk(finite)
    if spread > 0:
        low, high = max(low, middle - 100 * spread), min(high, middle + 100 * spread)
    scale = max(high - low, 1e-30) / 65000
    offset = (low + high) / 2
    stretched = (np.clip(values.astype(np.float64), low, high) - offset) / scale
    return np.rint(stretched).astype(np.int16), scale, offset


def objects_of(labels: NDArray[Any]) -> list[dict[str, Any]]:
    """Every label but 0 with at least `SMALLEST` voxels: id, count and box as [first, one past the last] per axis."""
    ids, counts = np.unique(labels, return_counts=True)
    wanted = {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i != 0 and n >= SMALLEST}
    if not wanted:
        return []
    boxes = _boxes(labels, ids)
    return [{"id": i, "count": n, "box": boxes[i]} for i, n in wanted.items()]


def object_odds(counts: list[int]) -> tuple[float, ...]:
    """How often to draw objects of these voxel counts: by the fourth root of the size ratio, at most four times."""
    largest = max(counts, default=1)
    return tuple(min((largest / count) ** 0.25, 4.0) for count in counts)


def slice_axes(shape: tuple[int, ...], spacing: tuple[float, float, float], modality: str) -> tuple[int, ...]:
    """Axes along which slices are taken: all three (the first most often), only one for films and thick slices."""
    if modality in _FLAT_MODALITIES or shape[0] < 8:
        return (0,)
    thick = int(np.argmax(spacing))
    if spacing[thick] > _THICK * max(s for axis, s in enumerate(spacing) if axis != thick):
        return (thick,)
    return (0, 0, 1, 2)


def _bulk(values: NDArray[Any]) -> tuple[float, float]:
    """Median and inner 98 % of a sample."""
    sample = values[:: max(values.size // 200_000, 1)].astype(np.float64)
    low, middle, high = np.percentile(sample, (1, 50, 99))
    return float(middle), float(high - low)


def _boxes(labels: NDArray[Any], ids: NDArray[Any]) -> dict[int, list[list[int]]]:
    from scipy import ndimage

    dense = labels
    names = ids
    if int(ids[-1]) > 4 * len(ids) + 1000:  # few but high numbers: number them anew
        dense, names = np.searchsorted(ids, labels), np.arange(len(ids))
        if ids[0] != 0:
            dense, names = dense + 1, names + 1
    found = ndimage.find_objects(dense.astype(np.int32, copy=False))
    boxes = {}
    for identity, name in zip(ids.tolist(), names.tolist(), strict=True):
        if identity != 0:
            boxes[int(identity)] = [[int(s.start), int(s.stop)] for s in found[name - 1]]
    return boxes
