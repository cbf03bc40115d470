"""Whole tissues as targets: gray values of a labelled region in classes, where nobody has labelled the tissues.

Atlases of the brain name gyri and nuclei, but people click on white matter, too. On T1 images three classes of gray
values inside the brain are, to a good approximation, cerebrospinal fluid, grey and white matter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.data.clips import Source
from limnet.errors import InputError

CLASSES = 3
_CLOSING = 5  # voxels: gaps between labels, such as white matter in an atlas of the cortex
_LABELLED = 0.2  # of the foreground: below it labels are single lesions, and the foreground is the region
_BIAS = 25.0  # voxels: standard deviation of the smoothing that takes out uneven illumination
_SAMPLES = 60_000
_ROUNDS = 80


def tissue_source(source: Source, classes: int = CLASSES) -> Source:
    """The same volume with gray classes in place of its labels, 1 for the darkest.

    Args:
        source: with an image and labels of a whole organ, or an image with nothing but the organ.
        classes: how many.

    Raises:
        InputError: a label map without image.
    """
    if source.image is None:
        raise InputError(f"{source.name or 'a source'} has no image, so nothing tells its tissues apart")
    image = np.asarray(source.image, np.float32)
    low, high = np.percentile(image, (1, 99.5))
    shown = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    found = gray_classes(shown, _region(shown, source.labels), classes)
    return replace(source, labels=found, odds=(), boxes={}, includes={}).with_ids()


def gray_classes(image: NDArray[np.float32], inside: NDArray[np.bool_], classes: int = CLASSES) -> NDArray[np.uint8]:
    """Cluster the gray values of a region (k-means), after evening out slow changes of brightness.

    Args:
        image: (D, H, W) in [0, 1].
        inside: bool (D, H, W), not empty.
        classes: number of clusters, at least 2.

    Returns:
        (D, H, W): 0 outside, else 1 (darkest) to `classes`.

    Raises:
        InputError: an empty region or fewer than 2 classes.
    """
    from scipy import ndimage
    from scipy.cluster.vq import kmeans2

    if classes < 2 or not inside.any():
        raise InputError(f"{classes} classes of {int(inside.sum())} voxels: give at least 2 classes and some voxels")
    within = inside.astype(np.float32)
    share = ndimage.gaussian_filter(within, _BIAS)
    local = ndimage.gaussian_filter(image * within, _BIAS) / np.maximum(share, 1e-3)
    even = ndimage.gaussian_filter(image, 0.5) / np.maximum(local, 1e-3)
    values = even[inside]
    values = np.random.default_rng(0).choice(values, min(len(values), _SAMPLES), replace=False)
    start = np.quantile(values, (np.arange(classes) + 0.5) / classes)
    centres = np.sort(kmeans2(values, start, iter=_ROUNDS, minit="matrix")[0])
    borders = (centres[1:] + centres[:-1]) / 2
    return np.where(inside, np.digitize(even, borders) + 1, 0).astype(np.uint8)


def part_of(target: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A round part of a mask or two: what a first click gives of a whole tissue, for the next one to go on from.

    One click on tissue may mean a small structure in it; only the next one, elsewhere on it, says that all is meant.

    Args:
        target: bool (H, W), not empty.
        rng: source of randomness.

    Returns:
        bool (H, W), a median of 15 % of the target; now and then a little beyond it.
    """
    from scipy import ndimage

    rows, columns = np.ogrid[tuple(slice(n) for n in target.shape)]
    places = np.argwhere(target)
    found = np.zeros_like(target)
    for _ in range(1 if rng.random() < 0.65 else 2):
        row, column = places[rng.integers(len(places))]
        radius = rng.uniform(0.1, 0.45) * np.sqrt(len(places)) + 4
        pieces, _ = ndimage.label(target & ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2))
        found |= pieces == pieces[row, column]
    if rng.random() < 0.3:
        return ndimage.binary_dilation(found, iterations=int(rng.integers(1, 3)))
    return found


def _region(image: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """The largest piece of what is labelled, gaps closed; of the foreground where labels cover little of it."""
    from scipy import ndimage

    foreground = image > 0.12  # noise in air stays below
    marked = np.pad(labels > 0, _CLOSING + 1)
    if marked.sum() >= _LABELLED * foreground.sum():
        region = ndimage.binary_closing(marked, iterations=_CLOSING)
    else:
        region = ndimage.binary_opening(np.pad(foreground, _CLOSING + 1), iterations=2)
    region = ndimage.binary_fill_holes(region)[(slice(_CLOSING + 1, -_CLOSING - 1),) * 3]
    pieces, count = ndimage.label(region)
    return pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax()) if count > 1 else region
