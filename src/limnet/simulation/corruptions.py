"""Defective masks: ground truth damaged in the six ways of the LIM-Net paper, to train networks that mend masks.

Every kind is a dataclass of plain numbers with two halves: `draw` takes parameters for the object at hand, `apply` is a
pure function of mask and parameters. Parameters can be written to JSON and read back, and give the identical mask.
`corrupt` does both halves for one seed, `corrupt_batch` for a batch on any device; the result is never empty and never
the whole slice.

Source: LIM-Net, "defective mask generation strategy". Its amounts are pixels of 480 x 480 slices; here they shrink with
the object (`ObjectScale`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from limnet.errors import InputError

Mask = NDArray[np.bool_]
Probabilities = Mapping[str, float] | Sequence[float]

SHAPES = ("rectangle", "triangle", "polygon")
NEAR = 0.75  # added shapes have their middle at most this many object sides away from an object pixel
_TYPICAL_SIDE = 120.0  # pixels: side of an object that covers a sixteenth of a 480 x 480 slice
_TYPICAL_DEPTH = 40.0  # pixels: depth of such an object that is a little longer than wide
_TRIES = 12  # draws of a shape until it changes enough
_CONNECTED_8 = np.ones((3, 3), bool)


class ObjectScale(NamedTuple):
    """Measures of one object in one slice.

    Attributes:
        area: number of pixels.
        side: square root of the area, in pixels.
        depth: largest chessboard distance of an object pixel to the background (1 for a line of pixels).
        unit: factor for amounts in pixels that are meant for an object of typical size in a 480 x 480 slice.
    """

    area: int
    side: float
    depth: int
    unit: float

    def pixels(self, amount: float) -> float:
        """An amount for 480-pixel slices in pixels of this object, at least 1, rounded to 1/1000."""
        return round(max(1.0, amount * self.unit), 3)


def object_scale(mask: Mask, literal: bool = False) -> ObjectScale:
    """Measure the object in a mask, bool (H, W) with at least one pixel set and one unset (InputError).

    Amounts shrink with the object's side (an object of 30 pixels moves by a quarter of what one of 120 does) and with
    its depth (a thin one moves less than a round one of the same area), and grow to at most what an object that spans
    half of the slice gets. `literal` ones stay what they are, whatever the object's size.
    """
    box = object_box(mask, 1)
    area = int(np.count_nonzero(mask))
    if area == mask.size:
        raise InputError("the mask fills the whole slice; give a slice with some background")
    depth = int(ndimage.distance_transform_cdt(mask[box], "chessboard").max())
    side = float(np.sqrt(area))
    unit = min(side / _TYPICAL_SIDE, depth / _TYPICAL_DEPTH, min(mask.shape) / (2 * _TYPICAL_SIDE))
    return ObjectScale(area, side, depth, 1.0 if literal else unit)


def object_box(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Bounding box of the object in a mask (H, W), wider by `margin` pixels, cut at the edges of the slice.

    Raises:
        InputError: an empty mask, or other dimensions.
    """
    if mask.ndim != 2:
        raise InputError(f"mask has shape {mask.shape}; give one slice (H, W)")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise InputError("the mask is empty: there is nothing to damage. Give a slice that shows the object")
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, mask.shape[0])),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, mask.shape[1])),
    )


def border_pixels(mask: Mask) -> Mask:
    """Object pixels with a background pixel beside them; the edge of the slice is not background."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


@dataclass(frozen=True)
class Shape:
    """One filled shape in pixel coordinates.

    Attributes:
        kind: "rectangle", "triangle" or "polygon".
        centre: pixel (row, column) that always belongs to the shape.
        vertices: corners (row, column) in order; pixel centres lie on whole numbers.
    """

    kind: str
    centre: tuple[int, int]
    vertices: tuple[tuple[float, float], ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, centre: Sequence[int], area: float) -> Shape:
        """A shape of one of the three kinds, equally likely, of `area` pixels (1 at least) around a pixel.

        A rectangle of side ratio up to 2.5, a triangle or a polygon of 5 to 9 corners, turned at random. Corners are
        rounded to 1/100 pixel, so that parameters stay short.
        """
        kind = SHAPES[int(rng.integers(len(SHAPES)))]
        turn = float(rng.uniform(0, 2 * np.pi))
        if kind == "rectangle":
            ratio = float(np.exp(rng.uniform(-np.log(2.5), np.log(2.5))))
            half = 0.5 * np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [np.sqrt(ratio), 1 / np.sqrt(ratio)]
            corners = half @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        else:
            count = 3 if kind == "triangle" else int(rng.integers(5, 10))
            angles = turn + (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
            corners = rng.uniform(0.55, 1.0, count)[:, None] * np.stack([np.sin(angles), np.cos(angles)], 1)
        following = np.concatenate([corners[1:], corners[:1]])
        unit = 0.5 * abs(float(np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0])))
        middle = (int(centre[0]), int(centre[1]))
        corners = np.round(corners * np.sqrt(max(1.0, area) / unit) + middle, 2)
        return cls(kind, middle, tuple((float(a), float(b)) for a, b in corners))

    def paint(self, canvas: Mask, value: bool = True) -> None:
        """Set the pixels of the shape to `value`, in place; what lies outside the canvas (H, W) is cut off."""
        corners = np.asarray(self.vertices, float)
        low = np.clip(np.ceil(corners.min(0)).astype(int), 0, canvas.shape)
        high = np.clip(np.floor(corners.max(0)).astype(int) + 1, low, canvas.shape)
        rows = np.arange(low[0], high[0], dtype=float)[:, None]
        columns = np.arange(low[1], high[1], dtype=float)[None]
        inside = np.zeros((rows.shape[0], columns.shape[1]), bool)
        for (y0, x0), (y1, x1) in zip(self.vertices, self.vertices[1:] + self.vertices[:1], strict=True):
            if y0 != y1:  # even-odd rule: count the edges to the right of each pixel centre
                crosses = (rows >= min(y0, y1)) & (rows < max(y0, y1))
                inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
        canvas[low[0] : high[0], low[1] : high[1]][inside] = value
        if all(0 <= c < n for c, n in zip(self.centre, canvas.shape, strict=True)):
            canvas[self.centre] = value


@dataclass(frozen=True)
class AddShapes:
    """Shapes in or near the object that are added to the mask."""

    shapes: tuple[Shape, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> AddShapes:
        """One to three shapes of 5 to 50 % of the object's area, in the object or near it."""
        pixels = np.argwhere(mask)
        shapes = []
        for _ in range(int(rng.integers(1, 4))):
            for _ in range(_TRIES):
                angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, NEAR * scale.side)
                middle = pixels[rng.integers(len(pixels))] + reach * np.array([np.sin(angle), np.cos(angle)])
                inside = (middle > -0.5).all() and (middle < np.array(mask.shape) - 0.5).all()
                centre = np.clip(np.rint(middle), 0, np.array(mask.shape) - 1).astype(int)
                shape = Shape.draw(rng, centre, rng.uniform(0.05, 0.5) * scale.area)
                added = np.count_nonzero(cls((shape,)).apply(mask)) - scale.area
                if inside and added >= max(1, 0.02 * scale.area):
                    shapes.append(shape)
                    break
        return cls(tuple(shapes or [shape]))

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

    @classmethod
    def draw(cls, rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> Morphology:
        """Dilation by 10 to 30 or erosion by 10, equally likely; what a single pixel wide is can only grow."""
        if scale.depth < 2 or rng.random() < 0.5:
            iterations = int(rng.integers(10, 31))
            room = float(ndimage.distance_transform_cdt(~mask, "chessboard").max())
            return cls("dilate", iterations, min(scale.pixels(iterations), max(1.0, round(0.6 * room, 3))))
        return cls("erode", 10, min(scale.pixels(10), round(0.75 * scale.depth, 3)))

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

    @classmethod
    def draw(cls, rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> DisplaceBoundary:
        """At most 10 to 30 pixels, from fine teeth to broad bumps."""
        distance = scale.pixels(float(rng.uniform(10, 30)))
        cell = round(max(1.5, distance * float(rng.uniform(0.25, 1.0))), 3)
        return cls(distance, cell, int(rng.integers(2**31)))

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) in which no pixel further than `distance` from the old border has changed.

        The border runs half a pixel outside the object's outermost pixels.
        """
        box = object_box(mask, int(self.distance) + 2)
        window = mask[box]
        away, nearest = ndimage.distance_transform_edt(~border_pixels(window), return_indices=True)
        signed = np.where(window, -0.5 - away, away - 0.5)
        result = mask.copy()
        result[box] = signed < self._displacement(window.shape)[tuple(nearest)]
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

    @classmethod
    def draw(cls, rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> Smooth:
        """The paper gives no width; 6 to 18 pixels take detail away and leave the place and size."""
        return cls(scale.pixels(float(rng.uniform(6, 18))))

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

    @classmethod
    def draw(cls, rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> RemoveParts:
        """Whole pieces of an object in several, or one or two shapes of 10 to 50 % cut out; a quarter remains."""
        if rng.random() < 0.5:
            labels, count = ndimage.label(mask, _CONNECTED_8)
            if count > 1:
                chosen = rng.permutation(count)[: int(rng.integers(1, count))] + 1
                places = [np.unravel_index(int(np.argmax(labels == i)), mask.shape) for i in chosen]
                return cls(pieces=tuple((int(row), int(column)) for row, column in places))
        pixels = np.argwhere(mask)
        for attempt in range(_TRIES):
            shapes = []
            for _ in range(1 if attempt > _TRIES // 2 else int(rng.integers(1, 3))):
                centre = pixels[rng.integers(len(pixels))]
                shapes.append(Shape.draw(rng, centre, rng.uniform(0.1, 0.5) * scale.area))
            parameters = cls(shapes=tuple(shapes))
            if np.count_nonzero(parameters.apply(mask)) >= max(1, 0.25 * scale.area):
                return parameters
        return cls(shapes=(Shape.draw(rng, pixels[rng.integers(len(pixels))], 1.0),))  # a pixel at least

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

    @classmethod
    def draw(cls, rng: np.random.Generator, mask: Mask, scale: ObjectScale) -> MergeShapes:
        """One to three shapes of 4 to 30 % of the area (4 pixels at least) whose middle lies on the border."""
        border = np.argwhere(border_pixels(mask))
        shapes = []
        for _ in range(int(rng.integers(1, 4))):
            for _ in range(_TRIES):
                centre = border[rng.integers(len(border))]
                shape = Shape.draw(rng, centre, max(4.0, rng.uniform(0.04, 0.3) * scale.area))
                if np.count_nonzero(AddShapes((shape,)).apply(mask)) > scale.area:
                    break
            shapes.append(shape)
        return cls(tuple(shapes))

    def apply(self, mask: Mask) -> Mask:
        """Mask (H, W) with those parts of the shapes that hang together with it (8 neighbours)."""
        grown = AddShapes(self.shapes).apply(mask)
        labels, count = ndimage.label(grown, _CONNECTED_8)
        kept = np.zeros(count + 1, bool)
        kept[labels[mask]] = True
        return kept[labels]


Corruption = AddShapes | Morphology | DisplaceBoundary | Smooth | RemoveParts | MergeShapes

CORRUPTIONS: Mapping[str, type[Corruption]] = MappingProxyType(
    {
        "add_shapes": AddShapes,
        "morphology": Morphology,
        "displace_boundary": DisplaceBoundary,
        "smooth": Smooth,
        "remove_parts": RemoveParts,
        "merge_shapes": MergeShapes,
    }
)
"""Name -> kind, in the paper's order."""

PAPER: Mapping[str, float] = MappingProxyType(dict(zip(CORRUPTIONS, (0.1, 0.1, 0.3, 0.2, 0.1, 0.2), strict=True)))
"""Name -> the paper's probability."""


def draw_corruption(
    rng: np.random.Generator, mask: ArrayLike, probabilities: Probabilities = PAPER, literal: bool = False
) -> Corruption:
    """Draw a kind of defect and its parameters for the object in a mask.

    Args:
        mask: (H, W), non-zero is the object; neither empty nor full.
        probabilities: of the kinds by name, kinds left out have none; or six numbers in the order of `PAPER`.
        literal: take the paper's pixels as they are printed (10 to 30), whatever the object's size. Else they are
            scaled: what is 10 pixels on an object 120 pixels wide in a 480-pixel slice is 2.5 on one of 30.

    Raises:
        InputError: a mask that is not 2-D, empty or full; probabilities that are negative, do not sum to 1, or name an
            unknown kind.
    """
    chances = checked_probabilities(probabilities)
    truth = np.asarray(mask) != 0
    scale = object_scale(truth, literal)
    return CORRUPTIONS[str(rng.choice(list(CORRUPTIONS), p=chances))].draw(rng, truth, scale)


def apply(mask: ArrayLike, parameters: Corruption) -> Mask:
    """Damage a mask.

    Args:
        mask: (H, W), non-zero is the object; it is not changed.
        parameters: drawn for this mask, or for another one.

    Returns:
        bool (H, W). If nothing would be left, the deepest pixels of the object stay; if everything would be filled,
        the deepest pixels of the background stay.

    Raises:
        InputError: a mask that is not 2-D, empty or full.
    """
    truth = np.asarray(mask) != 0
    if truth.ndim == 2 and truth.all():
        raise InputError("the mask fills the whole slice; give a slice with some background")
    kind_of(parameters)
    result = parameters.apply(truth)
    if not result.any():
        return _deepest(truth)
    return ~_deepest(~truth) if result.all() else result


def corrupt(
    mask: ArrayLike, seed: int | Sequence[int], probabilities: Probabilities = PAPER, literal: bool = False
) -> tuple[Mask, Corruption]:
    """Draw and apply in one go: the same seed and mask give the same defective mask.

    Args:
        mask: (H, W), non-zero is the object; neither empty nor full.
        seed: one number, or several such as (seed, epoch, case, click).

    Returns:
        The defective mask, bool (H, W), and the parameters that made it.
    """
    parameters = draw_corruption(np.random.default_rng(seed), mask, probabilities, literal)
    return apply(mask, parameters), parameters


def corrupt_batch(
    target: Tensor, generator: torch.Generator, probabilities: Probabilities = PAPER, literal: bool = False
) -> Tensor:
    """One defective mask for every sample of a batch.

    Args:
        target: bool (B, 1, H, W), any device (the masks themselves are made on the CPU); non-zero is the object.
        generator: of the CPU; exactly B numbers are drawn from it, whatever the masks are.

    Returns:
        float32 (B, 1, H, W) of 0 and 1 on the device of `target`. Empty and full masks come back as they are.

    Raises:
        InputError: a batch of another shape, or bad probabilities.
    """
    if target.ndim != 4 or target.shape[1] != 1:
        raise InputError(f"target has shape {tuple(target.shape)}; give (B, 1, H, W)")
    seeds = torch.randint(0, 2**62, (len(target),), generator=generator).tolist()
    masks = target.detach().cpu().numpy()[:, 0] != 0
    for mask, seed in zip(masks, seeds, strict=True):
        if mask.any() and not mask.all():
            mask[:] = corrupt(mask, seed, probabilities, literal)[0]
    return torch.from_numpy(masks[:, None]).to(target.device, torch.float32)


def kind_of(parameters: Corruption) -> str:
    """Name of a corruption's kind, a key of `CORRUPTIONS`; InputError for anything else."""
    for name, kind in CORRUPTIONS.items():
        if type(parameters) is kind:
            return name
    known = ", ".join(kind.__name__ for kind in CORRUPTIONS.values())
    raise InputError(f"{parameters!r} is no corruption; give one of {known}")


def to_json(parameters: Corruption) -> dict[str, Any]:
    """Parameters as plain JSON types, with their kind under "kind"."""
    return {"kind": kind_of(parameters), **_nested(asdict(parameters), list)}


def from_json(record: Mapping[str, Any]) -> Corruption:
    """Parameters from what `to_json` wrote, also after a trip through a JSON file; InputError for anything else."""
    kind = CORRUPTIONS.get(str(record.get("kind")))
    if kind is None:
        raise InputError(f"kind is {record.get('kind')!r}; known kinds are {', '.join(CORRUPTIONS)}")
    given, known = set(record) - {"kind"}, {f.name for f in fields(kind)}
    if given != known:
        raise InputError(
            f"{record['kind']} has the fields {sorted(known)}, came with {sorted(given)}; give all of them"
        )
    values = {name: _nested(record[name], tuple) for name in known}
    if "shapes" in values:
        try:
            values["shapes"] = tuple(Shape(**shape) for shape in values["shapes"])
        except TypeError as error:
            raise InputError(f"shapes of {record['kind']} cannot be read ({error}); give what to_json wrote") from None
    return kind(**values)


def checked_probabilities(probabilities: Probabilities) -> NDArray[np.float64]:
    """Six probabilities in the order of `PAPER`; InputError for others than six of 0 or more that sum to 1."""
    if isinstance(probabilities, Mapping):
        unknown = set(probabilities) - set(CORRUPTIONS)
        if unknown:
            raise InputError(f"unknown kinds of corruption {sorted(unknown)}; known are {', '.join(CORRUPTIONS)}")
        probabilities = [float(probabilities.get(kind, 0.0)) for kind in CORRUPTIONS]
    chances = np.asarray(probabilities, float)
    if chances.shape != (len(CORRUPTIONS),):
        raise InputError(f"{chances.size} probabilities; give {len(CORRUPTIONS)}: {', '.join(CORRUPTIONS)}")
    if not (np.isfinite(chances).all() and (chances >= 0).all() and abs(chances.sum() - 1) < 1e-6):
        raise InputError(f"probabilities are {chances.tolist()}; give numbers of 0 or more that sum to 1")
    return chances / chances.sum()


def _deepest(region: Mask) -> Mask:
    depth = ndimage.distance_transform_edt(region)
    return region & (depth >= depth.max())


def _nested(value: Any, kind: type[list[Any]] | type[tuple[Any, ...]]) -> Any:
    """Every list and tuple inside as a list or a tuple."""
    if isinstance(value, dict):
        return {k: _nested(v, kind) for k, v in value.items()}
    return kind(_nested(v, kind) for v in value) if isinstance(value, (tuple, list)) else value
