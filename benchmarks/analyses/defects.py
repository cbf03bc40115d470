"""Two kinds of flawed masks beside the paper's six: superpixels damaged to a chosen overlap, and a neighbour's mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError
from limnet.simulation.corruptions import border_pixels, object_box, object_scale

_PLACES = (0.65, 0.25, 0.10)  # defects on the border, inside, outside
_TRIES = 6
_DEFECTS = 400


class Damaged(NamedTuple):
    """A damaged mask, bool (H, W); side of its superpixels in pixels; how many changed; IoU with the undamaged mask."""

    mask: NDArray[np.bool_]
    cell: int
    changes: int
    iou: float


def damage_superpixels(
    mask: ArrayLike, image: ArrayLike, rng: np.random.Generator, low: float = 0.75, high: float = 0.85
) -> Damaged:
    """Damage a mask superpixel by superpixel until its IoU with itself before lies in a range.

    The errors follow edges of the image, as those of a network do. Source: the initial masks of DAVIS-585 (Chen et al.,
    FocalClick, CVPR 2022): defects on the border, inside and outside, until the IoU is between 0.75 and 0.85.

    Args:
        mask: (H, W), non-zero is the object; neither empty nor full.
        image: (H, W), any units; the superpixels follow its edges.
        rng: source of randomness.
        low: least IoU, above 0.
        high: greatest IoU, below 1.

    Returns:
        Where the object has too few pixels for any mask in the range (or no room around it), the nearest found.

    Raises:
        InputError: shapes that differ or are not 2-D, an empty or full mask, a range that is not 0 < low < high < 1.
    """
    truth, gray = np.asarray(mask) != 0, np.asarray(image)
    if truth.ndim != 2 or truth.shape != gray.shape:
        raise InputError(f"mask has shape {truth.shape}, image {gray.shape}; give one slice (H, W) of each")
    if not 0 < low < high < 1:
        raise InputError(f"the IoU range is {low} to {high}; give 0 < low < high < 1")
    side = object_scale(truth).side
    cell, box = side / np.sqrt(rng.uniform(4, 40)), object_box(truth, int(np.ceil(side * 0.6)) + 2)
    best: Damaged | None = None
    for attempt in range(_TRIES):
        size = 1 if attempt == _TRIES - 1 else max(1, round(cell / 1.6**attempt))
        found = _draw(truth, superpixels(gray[box], size), box, size, rng, low, high)
        if best is None or _miss(found.iou, low, high) < _miss(best.iou, low, high):
            best = found
        if low <= found.iou <= high:
            break
    assert best is not None  # for the type checker: the loop runs at least once
    return best


def superpixels(image: NDArray[Any], cell: int) -> NDArray[np.int64]:
    """Cut an image into superpixels (SLIC).

    Args:
        image: (H, W), any units; scaled to its own range.
        cell: wanted side of a superpixel in pixels; 1 gives single pixels.

    Returns:
        int (H, W), labels from 0.
    """
    import SimpleITK as sitk

    if cell < 2 or min(image.shape) < 2 * cell:
        step = max(1, min(cell, *image.shape))
        rows, columns = (np.arange(n) // step for n in image.shape)
        return rows[:, None] * (int(columns[-1]) + 1) + columns
    low, high = np.percentile(image, (1, 99))
    scaled = np.clip((image - low) / (high - low or 1.0), 0, 1).astype(np.float32) * 100
    cut = sitk.SLICImageFilter()
    cut.SetNumberOfThreads(1)
    cut.SetSuperGridSize([cell, cell, cell])
    cut.SetSpatialProximityWeight(15.0)
    cut.SetMaximumNumberOfIterations(5)
    return sitk.GetArrayFromImage(cut.Execute(sitk.GetImageFromArray(scaled))).astype(np.int64)


def neighbour_slice(
    volume: NDArray[np.bool_], index: int, rng: np.random.Generator, reach: int = 3
) -> tuple[NDArray[np.bool_], int]:
    """The mask of a slice near `index` that shows the object: what a user gets who takes over the last slice's contour.

    Args:
        volume: bool (D, H, W).
        index: the slice for which a mask is wanted.
        rng: source of randomness.
        reach: largest distance in slices.

    Returns:
        The mask and how far away it was taken. All slices within reach that show the object, other than `index` itself,
        are equally likely; where there is none, the slice's own mask comes back, from distance 0.
    """
    near = range(max(index - reach, 0), min(index + reach, len(volume) - 1) + 1)
    shown = [i - index for i in near if i != index and volume[i].any()]
    offset = int(shown[rng.integers(len(shown))]) if shown else 0
    return volume[index + offset].copy(), offset


def _draw(
    truth: NDArray[np.bool_],
    labels: NDArray[np.int64],
    box: tuple[slice, slice],
    cell: int,
    rng: np.random.Generator,
    low: float,
    high: float,
) -> Damaged:
    result = truth.copy()
    window, before = result[box], truth[box]
    inside = np.bincount(labels.ravel(), before.ravel()).astype(int)
    outside = np.bincount(labels.ravel(), minlength=len(inside)) - inside
    places = [np.argwhere(border_pixels(before)), np.argwhere(before), np.argwhere(~before)]
    chances = np.array([p if len(at) else 0.0 for p, at in zip(_PLACES, places, strict=True)])
    area, lost, added, iou = int(before.sum()), 0, 0, 1.0
    goal = rng.uniform(low, high)
    used: set[int] = set()
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
        window[labels == label] = value
        if iou <= goal:
            break
    return Damaged(result, cell, len(used), float(iou))


def _miss(iou: float, low: float, high: float) -> float:
    return max(low - iou, iou - high, 0.0)
