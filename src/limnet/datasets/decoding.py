"""Labelled cases as sources of clips: gray, in few bits, with what drawing needs to know about every object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.datasets.clips import Source
from limnet.datasets.files import smallest_unsigned
from limnet.datasets.gray import GRAYS, mix_channels
from limnet.datasets.labelled import LabelledCase
from limnet.errors import FileFormatError

SMALLEST = 40  # voxels of an object worth a target
_FLAT_MODALITIES = ("photo", "endoscopy", "video")
_THICK = 2.2  # slices this much further apart than pixels are looked at along that axis only


def read_source(case: LabelledCase, weight: float = 1.0) -> Source:
    """Read a case from its own files into memory."""
    image, labels, about = decode_case(case)
    return replace(source_of(image, labels, about, weight), includes=case.includes)


def decode_case(case: LabelledCase) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    """Read a case.

    Returns:
        image uint8, int16 or uint16 (D, H, W), HU for CT; labels (D, H, W) in the smallest unsigned dtype; and facts
        as plain JSON: name, modality, spacing, window in units of the image, objects of at least 40 voxels with their
        counts and boxes.

    Raises:
        FileFormatError: image and labels are of different shape, or labels are no whole numbers.
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


def source_of(image: NDArray[Any], labels: NDArray[Any], about: dict[str, Any], weight: float = 1.0) -> Source:
    """Source from what `decode_case` returned."""
    objects = about["objects"]
    spacing: tuple[float, float, float] = tuple(about["spacing"])
    return Source(
        labels=labels,
        spacing=spacing,
        image=image,
        modality="ct" if about["modality"] == "ct" else "other",
        weight=weight,
        axes=slice_axes(labels.shape, spacing, about["modality"]),
        name=about["name"],
        ids=tuple(o["id"] for o in objects),
        odds=object_odds([o["count"] for o in objects]),
        boxes={o["id"]: tuple((low, high) for low, high in o["box"]) for o in objects},
        window=None if about["window"] is None else (about["window"][0], about["window"][1]),
    )


def few_bits(values: NDArray[Any], keep_units: bool = False) -> tuple[NDArray[Any], float, float]:
    """Intensities as uint8, int16 or uint16.

    Whole numbers that fit are kept. Others are rounded if their units are to be kept (HU), else stretched over int16;
    lone extreme values are cut where they would leave the rest no levels. NaN becomes the smallest value.

    Args:
        values: (D, H, W) numbers.
        keep_units: round and clip, never stretch.

    Returns:
        The integers, scale and offset: value = integer * scale + offset.
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


def objects_of(labels: NDArray[Any], smallest: int = SMALLEST) -> list[dict[str, Any]]:
    """Every label but 0 with at least `smallest` voxels: id, count and box as [first, one past the last] per axis."""
    ids, counts = np.unique(labels, return_counts=True)
    wanted = {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i != 0 and n >= smallest}
    if not wanted:
        return []
    boxes = _boxes(labels, ids)
    return [{"id": i, "count": n, "box": boxes[i]} for i, n in wanted.items()]


def object_odds(counts: list[int]) -> tuple[float, ...]:
    """How often to draw each object: small ones more often, with the fourth root of the size ratio, at most four times.

    Args:
        counts: voxels of each.
    """
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
