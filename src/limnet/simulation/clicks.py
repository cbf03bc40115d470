"""The robot user: where a person would click next, given the truth and the mask so far.

One implementation for training (in batches: `limnet.simulation.click_batch`), validation, tests and benchmarks. The
rules are those of the customary evaluation of interactive segmentation: the first click goes to the middle of the
object on its largest slice, every later one to the middle of the largest error. All distances are in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from limnet.errors import InputError
from limnet.image.slices import depth_inside

_CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


class RobotClick(NamedTuple):
    """One click of the robot user.

    Attributes:
        zyx: voxel (z, y, x) in array order.
        positive: True where the object was missed (or not begun), False where the mask went too far; what the user
            meant, also where the click slipped to the wrong side.
        size: number of voxels of the object's slice (first click) or of the error component (later ones).
    """

    zyx: tuple[int, int, int]
    positive: bool
    size: int


class Aim(NamedTuple):
    """What a click goes to: the object (first click) or an error component (later ones).

    Attributes:
        where: its bounding box (three slices).
        depth: float (d, h, w), distance in mm of every voxel in the box to the nearest one outside, 0 outside.
        positive: True for the object and for missed voxels.
        size: see `RobotClick`.
        flat: whether `depth` counts within the slices alone.
    """

    where: tuple[slice, ...]
    depth: NDArray[np.float64]
    positive: bool
    size: int
    flat: bool


class RobotUser:
    """A seeded, deterministic user.

    Args:
        spacing: voxel size (z, y, x) in mm.
        axis: slice axis; 0 clicks on slices ``volume[i]``.
        off_centre: draw a random voxel among those further than half the largest distance from the edge of the
            component, instead of the middle; for training.
        jitter: move the click by up to this many mm, staying inside the component.
        seed: with `epoch`, `case` and the round number the only source of randomness, so that clicks are the same for
            any number of workers or ranks.
        epoch: training epoch, part of the seed.
        case: index of the case, part of the seed.
        wrong_side: probability that a click lands just beside the component it was meant for, in the same slice: on
            background for a positive click, on the object for a negative one, where such pixels are near.
        slip: how far beside at most, in mm (one voxel at least).
        overlook: probability that the largest error is overlooked and the next largest, if any, is clicked.

    Raises:
        InputError: a value out of range.
    """

    def __init__(
        self,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        axis: int = 0,
        off_centre: bool = False,
        jitter: float = 0.0,
        seed: int = 0,
        epoch: int = 0,
        case: int = 0,
        wrong_side: float = 0.0,
        slip: float = 3.0,
        overlook: float = 0.0,
    ) -> None:
        self.spacing = tuple(float(s) for s in spacing)
        if len(self.spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise InputError(f"spacing is {tuple(spacing)}; give three positive numbers (z, y, x) in mm")
        if axis not in (0, 1, 2):
            raise InputError(f"axis is {axis!r}; a volume has the slice axes 0, 1 and 2")
        for name, distance in (("jitter", jitter), ("slip", slip)):
            if not (np.isfinite(distance) and distance >= 0):
                raise InputError(f"{name} is {distance!r}; give a distance of 0 mm or more")
        for name, chance in (("wrong_side", wrong_side), ("overlook", overlook)):
            if not 0 <= chance <= 1:
                raise InputError(f"{name} is {chance!r}; give a probability from 0 to 1")
        self.axis = axis
        self._in_plane = [s for a, s in enumerate(self.spacing) if a != axis]
        self.off_centre = off_centre
        self.jitter = float(jitter)
        self.wrong_side, self.slip, self.overlook = float(wrong_side), float(slip), float(overlook)
        self.seed, self.epoch, self.case = seed, epoch, case

    def next_click(self, target: NDArray[Any], mask: NDArray[Any] | None = None, round: int = 1) -> RobotClick | None:
        """Return the next click, or None when there is nothing to correct.

        With `overlook` and `wrong_side` the component or the place may be another one.

        Args:
            target: truth, bool (D, H, W); any non-zero voxel is the object.
            mask: segmentation so far, bool (D, H, W); None before the first click.
            round: number of the click, counted from 1; seeds the random draws and nothing else.

        Returns:
            For `mask` None: the middle of the object on its largest slice along the axis (of equally large slices the
            one
            nearest to the middle of them). Otherwise the middle of the largest 26-connected component of missed or of
            surplus
            voxels; missed ones win a tie.

        Raises:
            InputError: arrays that are not 3-D or differ in shape.
        """
        rng = np.random.default_rng([self.seed, self.epoch, self.case, round])
        noise = np.random.default_rng([self.seed, self.epoch, self.case, round, 1])  # leaves the other draws alone
        overlooks, slips = noise.random() < self.overlook, noise.random() < self.wrong_side
        aim = self.aim(target, mask, 2 if overlooks else 1)
        if aim is None:
            return None
        z, y, x = (int(v) + s.start for v, s in zip(self._point(aim, rng), aim.where, strict=True))
        click = RobotClick((z, y, x), aim.positive, aim.size)
        if not slips:
            return click
        truth = np.asarray(target) != 0
        region = np.zeros_like(truth)
        region[aim.where] = aim.depth > 0
        return self._slipped(click, np.take(region, click.zyx[self.axis], self.axis), truth, noise)

    def aim(self, target: NDArray[Any], mask: NDArray[Any] | None = None, among: int = 1) -> Aim | None:
        """What the next click goes to, and how deep every voxel lies in it; None where there is nothing to correct.

        The last of the `among` largest errors. InputError unless both are volumes of one shape.
        """
        truth = np.asarray(target) != 0
        if truth.ndim != 3:
            raise InputError(f"target has shape {truth.shape}; give a volume (D, H, W)")
        if mask is None:
            return self._first(truth)
        current = np.asarray(mask) != 0
        if current.shape != truth.shape:
            raise InputError(f"mask has shape {current.shape}, target {truth.shape}; they must be equal")
        errors = largest_errors(truth, current, among)
        if not errors:
            return None
        where, size, region, positive = errors[-1]
        flat = truth.shape[self.axis] == 1
        depth = self._in_slice(region) if flat else depth_inside(region, self.spacing)
        return Aim(where, depth, positive, size, flat)

    def _slipped(
        self, click: RobotClick, component: NDArray[np.bool_], truth: NDArray[np.bool_], noise: np.random.Generator
    ) -> RobotClick:
        """The click moved beside its component, bool (H, W), in its slice; pixels on the wrong side are preferred."""
        index = click.zyx[self.axis]
        away = ndimage.distance_transform_edt(~component, sampling=self._in_plane)
        near = ~component & (
            away <= max(self.slip, min(self._in_plane)) * (1 + 1e-9)
        )  # one pixel always counts as near
        wrong = near & (np.take(truth, index, self.axis) != click.positive)
        choices = np.argwhere(wrong if wrong.any() else near)
        if not len(choices):
            return click
        z, y, x = np.insert(choices[noise.integers(len(choices))], self.axis, index).tolist()
        return click._replace(zyx=(z, y, x))

    def _first(self, truth: NDArray[np.bool_]) -> Aim | None:
        areas = truth.sum(axis=tuple(a for a in range(3) if a != self.axis))
        if not areas.any():
            return None
        best = np.flatnonzero(areas == areas.max())
        index = int(best[np.argmin(np.abs(best - best.mean()))])
        box = [slice(0, n) for n in truth.shape]
        box[self.axis] = slice(index, index + 1)
        (inner,) = ndimage.find_objects(truth[tuple(box)].astype(np.int8))
        where = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner, strict=True))
        return Aim(where, self._in_slice(truth[where]), True, int(areas[index]), True)

    def _point(self, aim: Aim, rng: np.random.Generator) -> NDArray[np.intp]:
        """Middle (or a drawn voxel) of a region, counted from the corner of its box."""
        depth = aim.depth
        if self.off_centre:
            inside = np.argwhere(depth > depth.max() / 2)
            return inside[rng.integers(len(inside))]
        ties = np.argwhere(depth == depth.max())
        if len(ties) > 1 and not aim.flat:
            # A component thinner than its slice gap is equally deep nearly everywhere: then the slice decides.
            within = self._in_slice(depth > 0)[tuple(ties.T)]
            ties = ties[within == within.max()]
        offset = ((ties - ties.mean(axis=0)) * self.spacing) ** 2
        centre = ties[np.argmin(offset.sum(axis=1).round(9))]
        if self.jitter == 0:
            return centre
        inside = np.argwhere(depth > 0)
        near = (((inside - centre) * self.spacing) ** 2).sum(axis=1) <= self.jitter**2
        choices = inside[near]
        return choices[rng.integers(len(choices))]

    def _in_slice(self, region: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Distance in mm within each slice."""
        out = np.zeros(region.shape)
        for depth, plane in zip(np.moveaxis(out, self.axis, 0), np.moveaxis(region, self.axis, 0), strict=True):
            if plane.any():
                depth[:] = depth_inside(plane, self._in_plane)
        return out


class ErrorComponent(NamedTuple):
    """One 26-connected piece of missed or of surplus voxels.

    Attributes:
        where: its bounding box (three slices).
        size: number of voxels.
        region: the piece inside the box, bool.
        positive: True for missed voxels.
    """

    where: tuple[slice, ...]
    size: int
    region: NDArray[np.bool_]
    positive: bool


def largest_errors(truth: NDArray[np.bool_], mask: NDArray[np.bool_], count: int = 1) -> list[ErrorComponent]:
    """The `count` largest error components of bool (D, H, W), largest first.

    Missed voxels win a tie, then the first in array order.
    """
    found = []
    for positive, error in ((True, truth & ~mask), (False, mask & ~truth)):
        if not error.any():
            continue
        labels, _ = ndimage.label(error, structure=_CONNECTED_26)
        sizes = np.bincount(labels.ravel())[1:]
        best = np.argsort(-sizes, kind="stable")[:count].tolist()
        boxes = ndimage.find_objects(labels, max_label=max(best) + 1)
        found += [ErrorComponent(boxes[i], int(sizes[i]), labels[boxes[i]] == i + 1, positive) for i in best]
    return sorted(found, key=lambda c: (-c.size, not c.positive))[:count]
