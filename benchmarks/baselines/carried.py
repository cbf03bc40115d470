"""Baselines that carry limnet's own prompt masks to the other slices without a network: copy, shapes, optical flow.

Everything but propagation stays as in a real case: the interaction network, click rules, slices that end the object,
prompted slices that no later round touches. Fusion is off, as there is nothing random to choose from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.rounds import LimnetSession, Mask, loaded
from limnet.case.case import Case
from limnet.case.constraints import reach
from limnet.case.state import SlicePropagator
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice, depth_inside
from limnet.image.volume import Volume
from limnet.propagation.propagator import Progress, end_before_empty
from limnet.quality.assessor import Assessor
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Scope

_SIDE = 96  # most pixels of the longer side of a window of optical flow
_MARGIN = 0.5  # of the object's size, on each side of such a window


class Span(NamedTuple):
    """Slices to fill on one side of a prompted slice.

    Attributes:
        start: prompted slice that holds object.
        other: the next prompted slice with object on that side, or None.
        slices: the slices to fill, going away from `start`; without `other` those the object may reach at all.
        limited: whether `slices` was cut short by a prompted slice without object.
    """

    start: int
    other: int | None
    slices: range
    limited: bool

    @property
    def parts(self) -> dict[int, float]:
        """How far each slice is on the way to `other`, 0..1."""
        whole = abs((self.start if self.other is None else self.other) - self.start)
        return {index: abs(index - self.start) / max(whole, 1) for index in self.slices}


def spans(prompts: Mapping[int, Slice], origin: int, depth: int, known: Callable[[int], Slice]) -> Iterator[Span]:
    """Yield what has to be filled anew after slice `origin` was prompted (scope "interval").

    `prompts` are (H, W) probabilities, `known` gives the current result of a slice: where the object ended so far.
    """
    filled = {i: bool((p > 0.5).any()) for i, p in prompts.items()}
    around = reach(filled, origin, depth, "interval")
    for low, high in ((around.start - 1, origin), (origin, around.stop)):
        inside = range(low + 1, high)
        if not inside:
            continue
        if filled.get(low, False) and filled.get(high, False):
            yield Span(low, high, inside, False)
            continue
        for start, stop in ((low, high), (high, low)):
            if filled.get(start, False):
                step = 1 if stop > start else -1
                limited = stop in filled
                last = end_before_empty(known, start, stop, depth) + step if limited else stop
                yield Span(start, None, range(start + step, last, step), limited)


def area_radius(view: SliceView, mask: Mask) -> float:
    """Radius in mm of the disk with the area of an (H, W) mask."""
    return float(np.sqrt(np.count_nonzero(mask) * np.prod(view.spacing) / np.pi))


def carried_session(
    segmenter: InteractiveSegmenter, volume: Volume, axis: int, propagator: SlicePropagator
) -> LimnetSession:
    """A session on `volume` with another propagator, scope "interval" and no fusion."""
    engine = replace(segmenter.engine(), propagator=propagator, assessor=Assessor(None))
    settings = replace(segmenter.settings, scope="interval")
    return LimnetSession(Case(engine, volume, axis=axis, settings=settings))


@dataclass(frozen=True)
class Carried(SlicePropagator):
    """Prompt masks of a limnet model, carried to the other slices. An empty prompted slice ends the object.

    A propagator that fills the slices between two prompted ones, and those beyond the outermost.

    Attributes:
        reach: how far beyond the outermost prompted slice masks go; see `within_reach`.
        model: whose interaction network gives the prompt masks.
        precision: "auto", "fp32" or "bf16".
        device: where to compute; not part of the recorded configuration.
    """

    reach: float = 1.0
    model: str = "limnet-tiny"
    precision: str = "auto"
    device: str = "cpu"

    name = ""

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the model's weights."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("model", "device")}
        identity = loaded(self.model, self.precision, self.device).identity
        return {"class": type(self).__name__, **own, "model": identity}

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> LimnetSession:
        """Open a case; see `benchmarks.core.rounds.Predictor`."""
        segmenter = loaded(self.model, self.precision, self.device)
        return carried_session(segmenter, volume, axis, self)

    def propagate(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        origin: int,
        scope: Scope,
        known: Callable[[int], Slice],
        progress: Progress | None,
        found: Callable[[int, Slice], None] | None = None,
    ) -> dict[int, Slice]:
        """Masks of the slices around `origin`; see `limnet.case.state.SlicePropagator`."""
        result: dict[int, Slice] = {}
        for span in spans(prompts, origin, len(view), known):
            mask = prompts[span.start] > 0.5
            if span.other is None:
                masks = self.beyond(view, span, mask)
            else:
                masks = self.between(view, span, mask, prompts[span.other] > 0.5)
            result |= {index: one.astype(np.float32) for index, one in masks.items()}
        return result

    @abstractmethod
    def between(self, view: SliceView, span: Span, mask: Mask, other: Mask) -> dict[int, Mask]:
        """Masks of the slices between two prompted ones."""

    @abstractmethod
    def beyond(self, view: SliceView, span: Span, mask: Mask) -> dict[int, Mask]:
        """Masks of the slices beyond the outermost prompted one."""

    def within_reach(self, view: SliceView, span: Span, mask: Mask) -> list[int]:
        """The slices up to `reach` times the radius of the disk with the mask's area; all where the span is limited."""
        limit = np.inf if span.limited else self.reach * area_radius(view, mask)
        return [index for index in span.slices if abs(index - span.start) * view.gap <= limit]


@dataclass(frozen=True)
class NearestCopy(Carried):
    """Copies the mask of the nearest prompted slice; the default was chosen on training volumes."""

    reach: float = 0.6

    name = "nearest copy"

    def between(self, view: SliceView, span: Span, mask: Mask, other: Mask) -> dict[int, Mask]:
        """See `Carried.between`."""
        return {i: mask if part <= 0.5 else other for i, part in span.parts.items()}

    def beyond(self, view: SliceView, span: Span, mask: Mask) -> dict[int, Mask]:
        """See `Carried.beyond`."""
        return dict.fromkeys(self.within_reach(view, span, mask), mask)


@dataclass(frozen=True)
class ShapeInterpolation(Carried):
    """Blends the signed distances of two shapes (S. Raya and J. Udupa 1990); beyond them an ellipsoid's cap.

    The defaults were chosen on training volumes.

    Attributes:
        reach: half height of the cap beyond the outermost prompted slice, in radii of the disk with the mask's area;
            1 continues a ball cut through its middle.
        centred: move both shapes onto the line between their centres before blending.
    """

    reach: float = 1.5
    centred: bool = True

    name = "shape interpolation"

    def between(self, view: SliceView, span: Span, mask: Mask, other: Mask) -> dict[int, Mask]:
        """See `Carried.between`."""
        return {i: between_shapes(mask, other, p, view.spacing, self.centred) for i, p in span.parts.items()}

    def beyond(self, view: SliceView, span: Span, mask: Mask) -> dict[int, Mask]:
        """See `Carried.beyond`."""
        height = self.reach * area_radius(view, mask)
        if span.limited:
            height = (len(span.slices) + 0.5) * view.gap
        distance, found = signed_distance(mask, view.spacing), {}
        for index in span.slices:
            away = abs(index - span.start) * view.gap / height
            if away >= 1:
                break
            found[index] = (distance > distance.max() * (1 - np.sqrt(1 - away**2))) & mask
        return found


def signed_distance(mask: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """(H, W) distance in mm to the border of a non-empty mask, positive inside; beyond the slice is outside."""
    return depth_inside(mask, spacing) - ndimage.distance_transform_edt(~mask, sampling=spacing)


def between_shapes(first: Mask, second: Mask, part: float, spacing: tuple[float, float], centred: bool = False) -> Mask:
    """Shape at `part` (0..1) of the way between two (H, W) masks, neither empty; spacing (row, column) in mm.

    With `centred` the centres are brought together before blending, by whole pixels.
    """
    if centred:
        centres = [np.array(ndimage.center_of_mass(mask)) for mask in (first, second)]
        aim = (1 - part) * centres[0] + part * centres[1]
        shifts = [np.round(aim - centre) for centre in centres]
        first, second = (ndimage.shift(m, s, order=0) for m, s in zip((first, second), shifts, strict=True))
        if not first.any() or not second.any():
            return first | second
    return (1 - part) * signed_distance(first, spacing) + part * signed_distance(second, spacing) > 0


@dataclass(frozen=True)
class OpticalFlow(Carried):
    """Moves a mask with the image by dense optical flow (iterative Lucas-Kanade, scikit-image), in a window around it.

    The reach was chosen on training volumes.

    Attributes:
        radius: of the neighbourhood in which the flow is one, in pixels of the window.
    """

    reach: float = 0.8
    radius: int = 7

    name = "optical flow"

    def between(self, view: SliceView, span: Span, mask: Mask, other: Mask) -> dict[int, Mask]:
        """See `Carried.between`."""
        assert span.other is not None
        there = self._carry(view, mask, span.start, span.slices)
        back = self._carry(view, other, span.other, reversed(span.slices))
        return {i: (1 - part) * there[i] + part * back[i] > 0 for i, part in span.parts.items()}

    def beyond(self, view: SliceView, span: Span, mask: Mask) -> dict[int, Mask]:
        """See `Carried.beyond`."""
        slices = self.within_reach(view, span, mask)
        return {i: distance > 0 for i, distance in self._carry(view, mask, span.start, slices).items()}

    def _carry(self, view: SliceView, mask: Mask, start: int, slices: Iterable[int]) -> dict[int, NDArray[np.float64]]:
        """Signed distance (H, W) of the mask on each slice, in mm at the start; constant below once it has vanished."""
        distance, here, found = signed_distance(mask, view.spacing), start, {}
        for index in slices:
            if (distance > 0).any():
                box = window(distance > 0, view.spacing)
                moved = warped(distance[box], self._flow(view, here, index, box))
                distance = np.minimum(distance, 0.0)  # beside the window there is nothing
                distance[box] = moved
            found[index] = distance
            here = index
        return found

    def _flow(self, view: SliceView, here: int, there: int, box: tuple[slice, slice]) -> NDArray[np.float64]:
        """(2, h, w) pixels from each pixel of slice `there` to where it came from on slice `here`, in a window."""
        images = [view.gray(i)[0][box] for i in (here, there)]
        factor = max(1.0, max(images[0].shape) / _SIDE)
        small = [ndimage.zoom(i, 1 / factor, order=1) if factor > 1 else i for i in images]
        field = displacement(small[0], small[1], self.radius)
        if factor == 1:
            return field
        ratio = [n / m for n, m in zip(images[0].shape, field.shape[1:], strict=True)]
        return np.stack([ndimage.zoom(f, ratio, order=1) for f in field]) * factor


def window(mask: Mask, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns around a mask with a margin."""
    filled = [np.flatnonzero(mask.any(1 - axis)) for axis in range(2)]
    size = max(float(along[-1] - along[0] + 1) * step for along, step in zip(filled, spacing, strict=True))
    found = []
    for along, step, length in zip(filled, spacing, mask.shape, strict=True):
        away = max(8, int(np.ceil(_MARGIN * size / step)))
        found.append(slice(max(int(along[0]) - away, 0), min(int(along[-1]) + away + 1, length)))
    return found[0], found[1]


def displacement(moving: Slice, fixed: Slice, radius: int) -> NDArray[np.float64]:
    """Displacement (2, h, w) in pixels (rows, columns) such that moving[x + displacement(x)] looks like fixed[x]."""
    from skimage.registration import optical_flow_ilk

    if min(fixed.shape) < 2 * radius:
        return np.zeros((2, *fixed.shape))
    return np.asarray(optical_flow_ilk(fixed, moving, radius=radius, gaussian=True), np.float64)


def warped(values: NDArray[np.float64], field: NDArray[np.float64]) -> NDArray[np.float64]:
    """values[x + field(x)], linear, continued beyond the border."""
    return ndimage.map_coordinates(values, np.indices(values.shape) + field, order=1, mode="nearest")
