"""Draws the parameters of the six kinds of defective masks for an object of a given size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.simulation.corruption_kinds import (
    AddShapes,
    Corruption,
    DisplaceBoundary,
    MergeShapes,
    Morphology,
    RemoveParts,
    Smooth,
)
from limnet.simulation.corruption_shapes import draw_shape
from limnet.simulation.object_scale import ObjectScale, border_pixels

Mask = NDArray[np.bool_]
NEAR = 0.75  # added shapes have their middle at most this many object sides away from an object pixel
_TRIES = 12


def _add_shapes(rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> AddShapes:
    """One to three shapes of 5 to 50 % of the object's area, in the object or near it."""
    pixels = np.argwhere(mask)
    shapes = []
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(_TRIES):
            angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, NEAR * scale.side)
            middle = pixels[rng.integers(len(pixels))] + reach * np.array([np.sin(angle), np.cos(angle)])
            inside = (middle > -0.5).all() and (middle < np.array(mask.shape) - 0.5).all()
            row, column = np.clip(np.rint(middle), 0, np.array(mask.shape) - 1).astype(int)
            shape = draw_shape(rng, (int(row), int(column)), max(1.0, rng.uniform(0.05, 0.5) * scale.area))
            added = np.count_nonzero(AddShapes((shape,)).apply(mask)) - scale.area
            if inside and added >= max(1, 0.02 * scale.area):
                shapes.append(shape)
                break
    return AddShapes(tuple(shapes or [shape]))


def _morphology(rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> Morphology:
    """Dilation by 10 to 30 or erosion by 10, equally likely; what a single pixel wide is can only grow."""
    if scale.depth < 2 or rng.random() < 0.5:
        iterations = int(rng.integers(10, 31))
        room = float(ndimage.distance_transform_cdt(~mask, "chessboard").max())
        return Morphology("dilate", iterations, min(scale.pixels(iterations), max(1.0, round(0.6 * room, 3))))
    return Morphology("erode", 10, min(scale.pixels(10), round(0.75 * scale.depth, 3)))


def _displace_boundary(rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> DisplaceBoundary:
    """At most 10 to 30 pixels, from fine teeth to broad bumps."""
    distance = scale.pixels(float(rng.uniform(10, 30)))
    cell = round(max(1.5, distance * float(rng.uniform(0.25, 1.0))), 3)
    return DisplaceBoundary(distance, cell, int(rng.integers(2**31)))


def _smooth(rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> Smooth:
    """The paper gives no width; 6 to 18 pixels take detail away and leave the place and size."""
    return Smooth(scale.pixels(float(rng.uniform(6, 18))))


def _remove_parts(rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> RemoveParts:
    """Whole pieces of an object in several pieces, or one or two shapes of 10 to 50 % cut out; a quarter remains."""
    if rng.random() < 0.5:
        labels, count = ndimage.label(mask, np.ones((3, 3), bool))
        if count > 1:
            chosen = rng.permutation(count)[: int(rng.integers(1, count))] + 1
            places = [np.unravel_index(int(np.argmax(labels == i)), mask.shape) for i in chosen]
            return RemoveParts(pieces=tuple((int(row), int(column)) for row, column in places))
    pixels = np.argwhere(mask)
    for attempt in range(_TRIES):
        shapes = []
        for _ in range(1 if attempt > _TRIES // 2 else int(rng.integers(1, 3))):
            row, column = pixels[rng.integers(len(pixels))]
            shapes.append(draw_shape(rng, (int(row), int(column)), max(1.0, rng.uniform(0.1, 0.5) * scale.area)))
        parameters = RemoveParts(shapes=tuple(shapes))
        if np.count_nonzero(parameters.apply(mask)) >= max(1, 0.25 * scale.area):
            return parameters
    row, column = pixels[rng.integers(len(pixels))]  # a pixel at least
    return RemoveParts(shapes=(draw_shape(rng, (int(row), int(column)), 1.0),))


def _merge_shapes(rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> MergeShapes:
    """One to three shapes of 4 to 30 % of the area whose middle lies on the border."""
    border = np.argwhere(border_pixels(mask))
    shapes = []
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(_TRIES):
            row, column = border[rng.integers(len(border))]
            shape = draw_shape(rng, (int(row), int(column)), max(4.0, rng.uniform(0.04, 0.3) * scale.area))
            if np.count_nonzero(AddShapes((shape,)).apply(mask)) > scale.area:
                break
        shapes.append(shape)
    return MergeShapes(tuple(shapes))


DRAWS: dict[str, Callable[[np.random.Generator, Mask, ObjectScale], Corruption]] = {
    "add_shapes": _add_shapes,
    "morphology": _morphology,
    "displace_boundary": _displace_boundary,
    "smooth": _smooth,
    "remove_parts": _remove_parts,
    "merge_shapes": _merge_shapes,
}
