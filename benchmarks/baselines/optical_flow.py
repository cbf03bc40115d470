"""Peer: limnet's prompt masks, carried from slice to slice by dense optical flow (demons registration, SimpleITK).

J.-P. Thirion, "Image matching as a diffusion process", Medical Image Analysis 1998. Computed in a window that follows
the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.baselines.prompt_masks import carried_session, prompt_model
from benchmarks.baselines.shape_interpolation import signed_distance
from benchmarks.baselines.spans import area_radius, spans
from benchmarks.core.limnet_predictor import LimnetSession
from limnet.engine import Progress, SlicePropagator
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Scope
from limnet.slice_view import SliceView
from limnet.volume import Volume

Slice = NDArray[np.float32]

_SIDE = 96  # most pixels of the longer side of a window
_MARGIN = 0.5  # of the object's size, on each side


@dataclass(frozen=True)
class FlowCarrier(SlicePropagator):
    """Propagator that moves a mask with the image.

    Attributes:
        reach: beyond the outermost prompted slice a mask is carried up to this many times the radius of the disk with
            its area.
        iterations: of the registration, on each of two resolutions.
        sigma: smoothing of the displacements in pixels.
    """

    reach: float
    iterations: int
    sigma: float

    def propagate(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        origin: int,
        scope: Scope,
        known: Callable[[int], Slice],
        progress: Progress | None,
        within: tuple[int, int] | None = None,
        found: Callable[[int, Slice], None] | None = None,
    ) -> dict[int, Slice]:
        """Masks of the slices around `origin`; see `limnet.engine.SlicePropagator`."""
        result: dict[int, Slice] = {}
        for span in spans(prompts, origin, len(view), known):
            if span.other is not None:
                there = self._carry(view, prompts[span.start] > 0.5, span.start, span.slices)
                back = self._carry(view, prompts[span.other] > 0.5, span.other, reversed(span.slices))
                for index in span.slices:
                    part = abs(index - span.start) / abs(span.other - span.start)
                    blend = (1 - part) * there[index] + part * back[index]
                    result[index] = (blend > 0).astype(np.float32)
                continue
            mask = prompts[span.start] > 0.5
            limit = np.inf if span.limited else self.reach * area_radius(view, mask)
            slices = [i for i in span.slices if abs(i - span.start) * view.gap <= limit]
            for index, distance in self._carry(view, mask, span.start, slices).items():
                result[index] = (distance > 0).astype(np.float32)
        return result

    def _carry(
        self, view: SliceView, mask: NDArray[np.bool_], start: int, slices: Iterable[int]
    ) -> dict[int, NDArray[np.float64]]:
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
        field = displacement(small[0], small[1], self.iterations, self.sigma)
        if factor == 1:
            return field
        shape = images[0].shape
        grown = [ndimage.zoom(f, [n / m for n, m in zip(shape, f.shape, strict=True)], order=1) for f in field]
        return np.stack(grown) * factor


def window(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns around a mask with a margin."""
    filled = [np.flatnonzero(mask.any(1 - axis)) for axis in range(2)]
    size = max(float(along[-1] - along[0] + 1) * step for along, step in zip(filled, spacing, strict=True))
    found = []
    for along, step, length in zip(filled, spacing, mask.shape, strict=True):
        away = max(8, int(np.ceil(_MARGIN * size / step)))
        found.append(slice(max(int(along[0]) - away, 0), min(int(along[-1]) + away + 1, length)))
    return found[0], found[1]


def displacement(
    moving: NDArray[np.float32], fixed: NDArray[np.float32], iterations: int, sigma: float
) -> NDArray[np.float64]:
    """Displacement (2, h, w) in pixels (rows, columns) such that moving[x + displacement(x)] looks like fixed[x].

    Args:
        moving: (h, w) gray values in [0, 1].
        fixed: the same shape.
        iterations: on half and on full resolution.
        sigma: smoothing of the displacements in pixels.
    """
    import SimpleITK as sitk

    if min(fixed.shape) < 8:
        return np.zeros((2, *fixed.shape))
    field: sitk.Image | None = None
    for shrink in (2, 1) if min(fixed.shape) >= 32 else (1,):
        levels = []
        for image in (fixed, moving):
            level = sitk.GetImageFromArray(np.asarray(image, np.float32) * 255.0)
            levels.append(sitk.BinShrink(level, [shrink, shrink]) if shrink > 1 else level)
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(sigma * shrink)  # in physical units: pixels of full resolution
        if field is None:
            field = demons.Execute(levels[0], levels[1])
        else:
            start = sitk.Resample(field, levels[0], sitk.Transform(), sitk.sitkLinear, 0.0, field.GetPixelID())
            field = demons.Execute(levels[0], levels[1], start)
    assert field is not None  # full resolution is always computed
    return np.moveaxis(sitk.GetArrayFromImage(field), -1, 0)[::-1].astype(np.float64)


def warped(values: NDArray[np.float64], field: NDArray[np.float64]) -> NDArray[np.float64]:
    """values[x + field(x)], linear, continued beyond the border."""
    return ndimage.map_coordinates(values, np.indices(values.shape) + field, order=1, mode="nearest")


@dataclass(frozen=True)
class OpticalFlowPeer:
    """Prompt masks of a limnet model carried by optical flow in place of propagation.

    An empty prompted slice ends the object.

    Attributes:
        model: whose interaction network gives the prompt masks.
        reach: see `FlowCarrier`; the defaults were chosen on training volumes.
        iterations: see `FlowCarrier`.
        sigma: see `FlowCarrier`.
        precision: "auto", "fp32" or "bf16".
        device: where to compute; not part of the recorded configuration.
    """

    model: str = "limnet-tiny"
    reach: float = 0.8
    iterations: int = 40
    sigma: float = 1.0
    precision: str = "auto"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "optical flow"

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the model's weights."""
        return {
            "class": type(self).__name__,
            "model": self._segmenter().identity,
            "reach": self.reach,
            "iterations": self.iterations,
            "sigma": self.sigma,
            "precision": self.precision,
        }

    def _segmenter(self) -> InteractiveSegmenter:
        return prompt_model(self.model, self.precision, self.device)

    def start(self, volume: Volume, axis: int) -> LimnetSession:
        """Open a case; see `benchmarks.core.protocol.Predictor`."""
        carrier = FlowCarrier(self.reach, self.iterations, self.sigma)
        return carried_session(self._segmenter(), volume, axis, carrier)
