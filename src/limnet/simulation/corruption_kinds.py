"""The six kinds of defective masks as plain parameters, each with a pure `apply`.

An instance says exactly what is done to a mask (in pixels of that mask); it holds only numbers, strings and tuples,
draws nothing and changes nothing but its own copy. Source: LIM-Net, "defective mask generation strategy".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.errors import InputError
from limnet.simulation.corruption_shapes import Shape
from limnet.simulation.object_scale import border_pixels, object_box

Mask = NDArray[np.bool_]
_CONNECTED_8 = np.ones((3, 3), bool)


@dataclass(frozen=True)
class AddShapes:
    """Shapes in or near the object that are added to the mask."""

    shapes: tuple[Shape, ...]

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) together with the shapes."""
        result = mask.copy()
        for shape in self.shapes:
            shape.paint(result)
        return result


@dataclass(frozen=True)
class Morphology:
    """Dilation or erosion.

    Attributes:
        operation: "dilate" or "erode".
        iterations: the number drawn for an object of typical size in a 480-pixel slice (10 to 30, or 10).
        distance: what that is for this object, in pixels: the border moves by it.
    """

    operation: str
    iterations: int
    distance: float

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) grown or shrunk by a disk; the edge of the slice is not background."""
        result = mask.copy()
        if self.operation == "dilate":
            box = object_box(mask, int(self.distance) + 1)
            result[box] = ndimage.distance_transform_edt(~mask[box]) <= self.distance
        elif self.operation == "erode":
            box = object_box(mask, 1)
            result[box] = ndimage.distance_transform_edt(mask[box]) > self.distance
        else:
            raise InputError(f"operation is {self.operation!r}; it is 'dilate' or 'erode'")
        return result


@dataclass(frozen=True)
class DisplaceBoundary:
    """Every border pixel moves in or out by a random amount, which leaves a jagged edge.

    Attributes:
        distance: largest displacement in pixels.
        cell: pixels over which the displacement changes from one random value to the next.
        seed: of the displacements.
    """

    distance: float
    cell: float
    seed: int

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) in which no pixel further than `distance` from the old border has changed.

        The border runs half a pixel outside the object's outermost pixels.
        """
        box = object_box(mask, int(self.distance) + 2)
        window = mask[box]
        away, nearest = ndimage.distance_transform_edt(~border_pixels(window), return_indices=True)
        signed = np.where(window, -0.5 - away, away - 0.5)
        shift = self._displacement(window.shape)[tuple(nearest)]
        result = mask.copy()
        result[box] = signed < shift
        return result

    def _displacement(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Random values within +-distance on a coarse grid, interpolated linearly to (h, w)."""
        coarse = [int(np.ceil(n / self.cell)) + 2 for n in shape]
        values = np.random.default_rng(self.seed).uniform(-self.distance, self.distance, coarse)
        for axis, length in enumerate(shape):
            at = np.arange(length) / self.cell
            low = at.astype(int)
            part = (at - low).reshape([-1, 1] if axis == 0 else [1, -1])
            values = values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part
        return values


@dataclass(frozen=True)
class Smooth:
    """Gaussian smoothing of the outline; fine detail and thin parts go.

    Attributes:
        sigma: standard deviation in pixels.
    """

    sigma: float

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W), blurred and cut at half of the highest value, so that something always remains."""
        box = object_box(mask, int(4 * self.sigma) + 1)
        blurred = ndimage.gaussian_filter(mask[box].astype(np.float32), self.sigma, mode="nearest")
        result = mask.copy()
        result[box] = blurred >= 0.5 * min(float(blurred.max()), 1.0)
        return result


@dataclass(frozen=True)
class RemoveParts:
    """Parts of the object that are taken away.

    Attributes:
        shapes: cut out of the mask.
        pieces: a pixel (row, column) of every connected piece that is removed as a whole.
    """

    shapes: tuple[Shape, ...] = ()
    pieces: tuple[tuple[int, int], ...] = ()

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) without the parts."""
        result = mask.copy()
        if self.pieces:
            labels, _ = ndimage.label(mask, _CONNECTED_8)
            ids = [int(labels[p]) for p in self.pieces if all(0 <= c < n for c, n in zip(p, mask.shape, strict=True))]
            result &= ~np.isin(labels, [i for i in ids if i])
        for shape in self.shapes:
            shape.paint(result, False)
        return result


@dataclass(frozen=True)
class MergeShapes:
    """Shapes over the border that grow together with the object."""

    shapes: tuple[Shape, ...]

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) with those parts of the shapes that hang together with it (8 neighbours)."""
        grown = AddShapes(self.shapes).apply(mask)
        labels, count = ndimage.label(grown, _CONNECTED_8)
        kept = np.zeros(count + 1, bool)
        kept[labels[mask]] = True
        return kept[labels]


Corruption = AddShapes | Morphology | DisplaceBoundary | Smooth | RemoveParts | MergeShapes

# Explicit table, in the paper's order.
CORRUPTIONS: dict[str, type[Corruption]] = {
    "add_shapes": AddShapes,
    "morphology": Morphology,
    "displace_boundary": DisplaceBoundary,
    "smooth": Smooth,
    "remove_parts": RemoveParts,
    "merge_shapes": MergeShapes,
}


def kind_of(parameters: Corruption) -> str:
    """Name of a corruption's kind, a key of `CORRUPTIONS`.

    Raises:
        InputError: anything else.
    """
    for name, kind in CORRUPTIONS.items():
        if type(parameters) is kind:
            return name
    raise InputError(
        f"{parameters!r} is no corruption; give one of {', '.join(k.__name__ for k in CORRUPTIONS.values())}"
    )
