"""Masks damaged superpixel by superpixel until their overlap with the truth lies in a chosen range.

The errors follow edges of the image, as those of a network do. Source: the initial masks of DAVIS-585 (Chen et al.,
FocalClick, CVPR 2022): defects on the border, inside and outside, until the IoU is between 0.75 and 0.85.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError
from limnet.simulation.corruptions import border_pixels, object_box, object_scale

_PLACES = (0.65, 0.25, 0.10)  # defects on the border, inside, outside
_TRIES = 6
_DEFECTS = 400


@dataclass(frozen=True)
class SuperpixelDamage:
    """What was done to a mask.

    Attributes:
        cell: side of a superpixel in pixels; 1 for single pixels.
        margin: pixels around the object that were cut into superpixels.
        changes: (row, column, value): the superpixel with this pixel takes the value.
        iou: overlap with the undamaged mask that was reached.
    """

    cell: int
    margin: int
    changes: tuple[tuple[int, int, bool], ...]
    iou: float


def damage_superpixels(
    mask: ArrayLike, image: ArrayLike, rng: np.random.Generator, low: float = 0.75, high: float = 0.85
) -> tuple[NDArray[np.bool_], SuperpixelDamage]:
    """Damage a mask until its IoU with itself before lies in a range.

    Args:
        mask: (H, W), non-zero is the object; neither empty nor full.
        image: (H, W), any units; the superpixels follow its edges.
        rng: source of randomness.
        low: least IoU, above 0.
        high: greatest IoU, below 1.

    Returns:
        The damaged mask, bool (H, W), and what was done. Where the object has too few pixels for any mask in the range
        (or no room around it), the nearest that was found; `iou` tells.

    Raises:
        InputError: shapes that differ or are not 2-D, an empty or full mask, a range that is not 0 < low < high < 1.
    """
    truth, gray = _arrays(mask, image)
    if not 0 < low < high < 1:
        raise InputError(f"the IoU range is {low} to {high}; give 0 < low < high < 1")
    scale = object_scale(truth)
    cell = scale.side / np.sqrt(rng.uniform(4, 40))
    margin = int(np.ceil(scale.side * 0.6)) + 2
    best: SuperpixelDamage | None = None
    for attempt in range(_TRIES):
        size = 1 if attempt == _TRIES - 1 else max(1, round(cell / 1.6**attempt))
        found = _draw(truth, gray, rng, size, margin, low, high)
        if best is None or _miss(found.iou, low, high) < _miss(best.iou, low, high):
            best = found
        if low <= found.iou <= high:
            break
    assert best is not None  # for the type checker: the loop runs at least once
    return apply_superpixels(truth, gray, best), best


def apply_superpixels(mask: ArrayLike, image: ArrayLike, parameters: SuperpixelDamage) -> NDArray[np.bool_]:
    """Repeat a damage: pure, the same mask, image and parameters give the same result.

    Args:
        mask: (H, W), the undamaged mask.
        image: (H, W), the image it was drawn for.
        parameters: from `damage_superpixels`.

    Returns:
        bool (H, W).

    Raises:
        InputError: shapes that differ or are not 2-D.
    """
    truth, gray = _arrays(mask, image)
    box = object_box(truth, parameters.margin)
    labels = superpixels(gray[box], parameters.cell)
    result = truth.copy()
    window = result[box]
    for row, column, value in parameters.changes:
        window[labels == labels[row - box[0].start, column - box[1].start]] = value
    return result


def superpixels(image: NDArray[Any], cell: int) -> NDArray[np.int64]:
    """Cut an image into superpixels (SLIC).

    Args:
        image: (H, W), any units; scaled to its own range.
        cell: wanted side of a superpixel in pixels; 1 gives single pixels.

    Returns:
        int (H, W), labels from 0.
    """
    if cell < 2 or min(image.shape) < 2 * cell:
        step = max(1, min(cell, *image.shape))
        rows, columns = (np.arange(n) // step for n in image.shape)
        return rows[:, None] * (int(columns[-1]) + 1) + columns
    low, high = np.percentile(image, (1, 99))
    scaled = np.clip((image - low) / (high - low or 1.0), 0, 1).astype(np.float32) * 100
    return _slic(scaled.tobytes(), scaled.shape, cell)


@lru_cache(maxsize=4)
def _slic(data: bytes, shape: tuple[int, ...], cell: int) -> NDArray[np.int64]:
    """SLIC on one thread: drawing and applying need the same cut right after each other."""
    import SimpleITK as sitk

    cut = sitk.SLICImageFilter()
    cut.SetNumberOfThreads(1)
    cut.SetSuperGridSize([cell, cell, cell])
    cut.SetSpatialProximityWeight(15.0)
    cut.SetMaximumNumberOfIterations(5)
    labels = sitk.GetArrayFromImage(cut.Execute(sitk.GetImageFromArray(np.frombuffer(data, np.float32).reshape(shape))))
    labels = labels.astype(np.int64)
    labels.setflags(write=False)
    return labels


def _draw(
    truth: NDArray[np.bool_],
    gray: NDArray[Any],
    rng: np.random.Generator,
    cell: int,
    margin: int,
    low: float,
    high: float,
) -> SuperpixelDamage:
    box = object_box(truth, margin)
    window = truth[box]
    labels = superpixels(gray[box], cell)
    inside = np.bincount(labels.ravel(), window.ravel()).astype(int)
    outside = np.bincount(labels.ravel(), minlength=len(inside)) - inside
    places = [np.argwhere(border_pixels(window)), np.argwhere(window), np.argwhere(~window)]
    chances = np.array([p if len(at) else 0.0 for p, at in zip(_PLACES, places, strict=True)])
    area, lost, added, iou = int(window.sum()), 0, 0, 1.0
    goal = rng.uniform(low, high)
    used: set[int] = set()
    changes: list[tuple[int, int, bool]] = []
    for _ in range(_DEFECTS):
        place = int(rng.choice(3, p=chances / chances.sum()))
        row, column = places[place][rng.integers(len(places[place]))]
        value = place == 2 or (place == 0 and rng.random() < 0.5)
        label = int(labels[row, column])
        less, more = (0, int(outside[label])) if value else (int(inside[label]), 0)
        reached = (area - lost - less) / (area + added + more)
        if label in used or less + more == 0 or reached < low:
            continue
        used.add(label)
        lost, added, iou = lost + less, added + more, reached
        changes.append((int(row) + box[0].start, int(column) + box[1].start, bool(value)))
        if iou <= goal:
            break
    return SuperpixelDamage(cell, margin, tuple(changes), float(iou))


def _miss(iou: float, low: float, high: float) -> float:
    return max(low - iou, iou - high, 0.0)


def _arrays(mask: ArrayLike, image: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    truth, gray = np.asarray(mask) != 0, np.asarray(image)
    if truth.ndim != 2 or truth.shape != gray.shape:
        raise InputError(f"mask has shape {truth.shape}, image {gray.shape}; give one slice (H, W) of each")
    return truth, gray
