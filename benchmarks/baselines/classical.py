"""Baselines without weights: random walker and geodesic distance (scikit-image), region growing (SimpleITK).

None of them is told how large the object is. Each is therefore tried on crops of several sizes around the positive
clicks, on a coarse grid, and the crop is taken whose result has the border that follows edges best; there it is run
again on a finer grid. Every click segments anew from all clicks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.rounds import Mask, Voxel
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.metrics.masks import dice

Values = NDArray[np.float32]
Crop = tuple[slice, slice, slice]
Node = tuple[int, int, int]

SCALES = (1.0, 0.5, 0.25, 0.12, 0.06)  # sides of the crops as shares of the longest side of the volume in mm
STEP = 0.07  # difference in gray value (0..1 in the window) over a border that counts for 1 - 1/e of a full edge
NOISE = 0.05  # least standard deviation of a tissue, in window units
LEAST = 20  # nodes: smaller regions are voxels that stand out of the noise
_THIN = 3  # voxels: crops thinner than that along an axis are not tried


class Grid(NamedTuple):
    """Nodes that each cover a block of voxels of a crop.

    Attributes:
        crop: the voxels covered, per axis.
        block: voxels of a node, per axis.
        values: mean gray value of each node, (d, h, w) in [0, 1].
        smooth: the same, smoothed: noise is no edge.
        spacing: mm between nodes.
        sides: bool (d, h, w), outermost nodes on those sides of the crop that are not sides of the volume.
    """

    crop: Crop
    block: Node
    values: Values
    smooth: Values
    spacing: tuple[float, float, float]
    sides: Mask

    def nodes_of(self, voxels: Sequence[Voxel]) -> list[Node]:
        """Nodes of voxels; those outside the crop are left out."""
        inside = [v for v in voxels if all(c.start <= i < c.stop for i, c in zip(v, self.crop, strict=True))]
        places = [[(i - c.start) // b for i, c, b in zip(v, self.crop, self.block, strict=True)] for v in inside]
        return [(z, y, x) for z, y, x in places]


class ClassicalSession:
    """One object. Without a positive click the mask is empty. The axis only chooses where the window is looked up."""

    def __init__(self, method: Classical, volume: Volume, axis: int) -> None:
        self.method, self.volume, self.axis = method, volume, axis
        self.positive: list[Voxel] = []
        self.negative: list[Voxel] = []
        self.mask = np.zeros(volume.shape, bool)

    def click(self, zyx: Voxel, positive: bool) -> Mask:
        """One round; bool (D, H, W)."""
        z, y, x = (int(v) for v in zyx)
        (self.positive if positive else self.negative).append((z, y, x))
        if not self.positive:
            return self.mask
        best: tuple[float, Crop, float] | None = None
        for scale, crop in self._crops():
            grid = self._grid(crop, self.method.coarse)
            before = _means(self.mask[crop].astype(np.float32), grid.block) > 0.5 if self.mask.any() else None
            for parameter, found in self.method.candidates(self, grid):
                inside = (found > 0) & ~grid.sides
                if best is not None and np.count_nonzero(inside) < LEAST:
                    continue
                score = border_strength(inside, grid) - self.method.small * float(np.log2(scale))
                score += 0.0 if before is None else self.method.keep * dice(inside, before)
                if best is None or score > best[0]:
                    best = score, crop, parameter
        assert best is not None  # the whole volume is always tried
        grid = self._grid(best[1], self.method.fine * self.method.coarse)
        _, found = next(self.method.candidates(self, grid, best[2]))
        grown = ndimage.zoom(found, grid.block, order=1, mode="nearest", grid_mode=True)
        self.mask = np.zeros(self.volume.shape, bool)
        shape = self.mask[best[1]].shape
        self.mask[best[1]] = grown[: shape[0], : shape[1], : shape[2]] > 0
        self.mask[tuple(np.transpose(self.positive))] = True
        labels, _ = ndimage.label(self.mask)
        self.mask = np.isin(labels, [labels[voxel] for voxel in self.positive])
        return self.mask

    @cached_property
    def image(self) -> Values:
        """(D, H, W) gray values in [0, 1] in the window of the first positive click; colours as their mean."""
        view = SliceView(self.volume, self.axis)
        index, row, column = (int(v) for v in view.points_to_view(np.array(self.positive[0])))
        low, high = view.auto_window(index, (float(row), float(column)))
        array = np.nan_to_num(np.asarray(self.volume.array, np.float32), nan=low, posinf=high, neginf=low)
        array = array.mean(-1) if array.ndim == 4 else array
        return np.clip((array - low) / max(high - low, 1e-9), 0.0, 1.0).astype(np.float32)

    def _crops(self) -> Iterator[tuple[float, Crop]]:
        """(scale, crop) from the whole volume to close around the positive clicks; equal crops once."""
        spacing, shape = self.volume.spacing, self.volume.shape
        longest = max(n * s for n, s in zip(shape, spacing, strict=True))
        seen: list[Crop] = []
        for scale in SCALES:
            ends = []
            for axis in range(3):
                away, along = round(scale * longest / 2 / spacing[axis]), [v[axis] for v in self.positive]
                ends.append(slice(max(min(along) - away, 0), min(max(along) + away + 1, shape[axis])))
            z, y, x = ends if scale < 1 else [slice(0, n) for n in shape]
            crop = z, y, x
            thin = any(e.stop - e.start < min(_THIN, n) for e, n in zip(crop, shape, strict=True))
            if crop not in seen and not thin:
                seen.append(crop)
                yield scale, crop

    def _grid(self, crop: Crop, nodes: int) -> Grid:
        """A grid of about `nodes` nodes at most, as even in mm as blocks of voxels allow."""
        sizes = [c.stop - c.start for c in crop]
        spacing, side = self.volume.spacing, float(min(self.volume.spacing))
        block = (1, 1, 1)
        while np.prod([-(-n // b) for n, b in zip(sizes, block, strict=True)]) > nodes:
            side *= 1.1
            z, y, x = (max(1, min(round(side / s), n)) for s, n in zip(spacing, sizes, strict=True))
            block = (z, y, x)
        values = _means(self.image[crop], block)
        sides = np.zeros(values.shape, bool)
        for axis, (ends, length) in enumerate(zip(crop, self.volume.shape, strict=True)):
            view = np.moveaxis(sides, axis, 0)
            view[:1] |= ends.start > 0
            view[-1:] |= ends.stop < length
        z, y, x = (b * s for b, s in zip(block, spacing, strict=True))
        return Grid(crop, block, values, ndimage.gaussian_filter(values, 0.7), (z, y, x), sides)

    def alike(self, values: Values, voxels: Sequence[Voxel]) -> Values:
        """How much gray values are like those around some voxels, 0..1: a bell curve around each, the best counts."""
        found = np.zeros_like(values)
        for z, y, x in voxels:
            near = self.image[max(z - 1, 0) : z + 2, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            distance = (values - near.mean()) / max(float(near.std()), NOISE)
            found = np.maximum(found, np.exp(-0.5 * distance**2))
        return found


def border_strength(mask: Mask, grid: Grid) -> float:
    """Mean strength of the edges under the border of a mask, 0 (no edge anywhere) to 1; 0 for an empty mask.

    Borders at the sides of the crop, which are background by decree, have no strength.
    """
    total = strong = 0.0
    for axis in range(3):
        m, c = np.moveaxis(mask, axis, 0), np.moveaxis(grid.sides, axis, 0)
        v = np.moveaxis(grid.smooth, axis, 0)
        border = m[1:] != m[:-1]
        area = float(np.prod(grid.spacing)) / grid.spacing[axis]
        strength = 1.0 - np.exp(-(((v[1:] - v[:-1])[border] / STEP) ** 2))
        strength[(c[1:] | c[:-1])[border]] = 0.0
        total += area * int(np.count_nonzero(border))
        strong += area * float(strength.sum())
    return strong / total if total else 0.0


def _means(values: Values, block: Node) -> Values:
    """Means over blocks; a block that sticks out of the array continues its border."""
    from skimage.measure import block_reduce

    padded = np.pad(values, [(0, -n % b) for n, b in zip(values.shape, block, strict=True)], mode="edge")
    return block_reduce(padded, block, np.mean).astype(np.float32)


@dataclass(frozen=True)
class Classical(ABC):
    """What all of them have.

    Attributes:
        coarse: nodes of the grid of a trial.
        fine: times as many nodes in the final run.
        small: bonus in border strength for every halving of the crop.
        keep: bonus for agreement (Dice) with the mask of the round before.
    """

    coarse: int = 20_000
    fine: int = 4
    small: float = 0.06
    keep: float = 0.3

    name = ""

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> ClassicalSession:
        """Begin one object; see `benchmarks.core.rounds.Predictor`."""
        return ClassicalSession(self, volume, axis)

    @abstractmethod
    def candidates(
        self, session: ClassicalSession, grid: Grid, chosen: float | None = None
    ) -> Iterator[tuple[float, Values]]:
        """Results on a grid: a parameter (`chosen` alone, if given), and values positive where the object is."""


@dataclass(frozen=True)
class RandomWalker(Classical):
    """Random walker from click seeds (L. Grady, "Random walks for image segmentation", PAMI 2006).

    Sides of the crop that are no sides of the volume are background, and so are nodes unlike all positive clicks.

    Attributes:
        beta: how much a step in gray value hinders the walker, see `skimage.segmentation.random_walker`.
        unlike: nodes less alike the positive clicks than this are background.
    """

    beta: float = 1000.0
    unlike: float = 0.001
    coarse: int = 12_000

    name = "random walker"

    def candidates(
        self, session: ClassicalSession, grid: Grid, chosen: float | None = None
    ) -> Iterator[tuple[float, Values]]:
        """Probability of the object against that of the background."""
        from skimage.segmentation import random_walker

        labels = np.where(grid.sides | (session.alike(grid.values, session.positive) < self.unlike), 2, 0)
        for nodes, label in ((session.negative, 2), (session.positive, 1)):
            for node in grid.nodes_of(nodes):
                labels[node] = label
        if not (labels == 2).any() or not (labels == 0).any():
            yield 0.0, np.where(labels == 2, -1.0, 1.0).astype(np.float32)
            return
        found = random_walker(
            grid.values, labels, self.beta, mode="cg_j", tol=1e-3, spacing=grid.spacing, return_full_prob=True
        )
        yield 0.0, (found[0] - found[1]).astype(np.float32)


@dataclass(frozen=True)
class GeodesicDistance(Classical):
    """Geodesic distance: a voxel belongs to the nearer kind of click, up to a distance.

    The length of a path counts millimetres, tissue unlike the clicks and edges crossed (A. Criminisi, T. Sharp,
    A. Blake, "GeoS: geodesic image segmentation", ECCV 2008). Of several distances the one is taken at which the border
    follows edges best.

    Attributes:
        tissue: extra cost of tissue unlike the clicks, against open tissue.
        edge: cost of an edge of one `STEP` in gray value, against open tissue.
        cuts: distances tried, evenly in the logarithm of the object's size.
    """

    tissue: float = 30.0
    edge: float = 5.0
    cuts: int = 24
    small: float = 0.03
    keep: float = 0.6

    name = "geodesic distance"

    def candidates(
        self, session: ClassicalSession, grid: Grid, chosen: float | None = None
    ) -> Iterator[tuple[float, Values]]:
        """By how much a node is within each of the distances, and nearer to positive clicks than to negative ones."""
        like = session.alike(grid.values, session.positive)
        near = self._distance(grid, 1.0 + self.tissue * (1.0 - like) ** 2, session.positive)
        unlike = session.alike(grid.values, session.negative) if session.negative else 1.0 - like
        far = self._distance(grid, 1.0 + self.tissue * (1.0 - unlike) ** 2, session.negative)
        inside = np.sort(near[(near < far) & ~grid.sides])
        sizes = np.geomspace(min(8, max(len(inside), 1)), max(len(inside), 1), self.cuts).astype(int)
        cuts = [float(inside[size - 1]) if len(inside) else 0.0 for size in sizes]
        for cut in cuts if chosen is None else [chosen]:
            yield cut, np.minimum(np.minimum(far, 2 * cut + 1) - near, cut - near + 1e-6)

    def _distance(self, grid: Grid, cost: Values, voxels: Sequence[Voxel]) -> Values:
        from skimage.graph import MCP_Geometric

        starts = grid.nodes_of(voxels)
        if not starts:
            return np.full(grid.values.shape, 1e6, np.float32)
        steps = ndimage.gaussian_gradient_magnitude(grid.values, 0.7) / STEP
        paths = MCP_Geometric(cost + self.edge * steps, sampling=grid.spacing, fully_connected=True)
        return np.minimum(paths.find_costs(starts)[0], 1e6).astype(np.float32)


@dataclass(frozen=True)
class ConfidenceConnected(Classical):
    """Region growing from the clicks within a confidence interval of their gray values.

    Of a region that holds a negative click everything nearer to it than to a positive click is taken away.

    Attributes:
        multipliers: half widths of the interval tried, in standard deviations.
        iterations: how often the interval is measured again in the region found.
        radius: neighbourhood of a click in which the interval is measured first, in nodes.
    """

    multipliers: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
    iterations: int = 2
    radius: int = 1
    coarse: int = 40_000
    fine: int = 1  # noise is another one on another grid, and so is the interval

    name = "confidence connected"

    def candidates(
        self, session: ClassicalSession, grid: Grid, chosen: float | None = None
    ) -> Iterator[tuple[float, Values]]:
        """1 in the region of each multiplier, -1 outside."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(grid.smooth)
        positive, negative = grid.nodes_of(session.positive), grid.nodes_of(session.negative)
        for multiplier in self.multipliers if chosen is None else [chosen]:
            grower = sitk.ConfidenceConnectedImageFilter()
            grower.SetNumberOfThreads(1)  # threads cost more than they bring on so few voxels
            grower.SetSeedList([tuple(reversed(node)) for node in positive])
            grower.SetNumberOfIterations(self.iterations)
            grower.SetMultiplier(multiplier)
            grower.SetInitialNeighborhoodRadius(self.radius)
            found = sitk.GetArrayFromImage(grower.Execute(image)) > 0
            found = ndimage.binary_closing(np.pad(found, 2, mode="edge"))[2:-2, 2:-2, 2:-2] | found
            if any(found[node] for node in negative):
                away = np.ones((2, *found.shape), bool)
                away[0][tuple(np.transpose(positive))] = away[1][tuple(np.transpose(negative))] = False
                apart = [ndimage.distance_transform_edt(nodes, sampling=grid.spacing) for nodes in away]
                found &= apart[0] < apart[1]
            yield multiplier, np.where(found, 1.0, -1.0).astype(np.float32)
