"""Peer: limnet's prompt masks, interpolated by their signed distances.

Between two prompted slices the signed distance maps of both masks are blended linearly (shape-based interpolation, Raya
and Udupa 1990). Beyond the outermost ones the mask shrinks like an ellipsoid to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.baselines.prompt_masks import carried_session, prompt_model
from benchmarks.baselines.spans import area_radius, spans
from benchmarks.core.limnet_predictor import LimnetSession
from limnet.engine import Progress, SlicePropagator
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Scope
from limnet.slice_view import SliceView
from limnet.volume import Volume

Slice = NDArray[np.float32]


@dataclass(frozen=True)
class ShapeInterpolation(SlicePropagator):
    """Propagator that interpolates shapes.

    Attributes:
        reach: half height of the cap beyond the outermost prompted slice, in radii of the disk with the mask's area;
            1 continues a ball cut through its middle.
        centred: move both shapes onto the line between their centres before blending.
    """

    reach: float
    centred: bool

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
            mask = prompts[span.start] > 0.5
            if span.other is not None:
                other = prompts[span.other] > 0.5
                whole = abs(span.other - span.start)
                for index in span.slices:
                    blend = between_shapes(mask, other, abs(index - span.start) / whole, view.spacing, self.centred)
                    result[index] = blend.astype(np.float32)
                continue
            height = self.reach * area_radius(view, mask)
            if span.limited:
                height = (len(span.slices) + 0.5) * view.gap
            distance = signed_distance(mask, view.spacing)
            for index in span.slices:
                away = abs(index - span.start) * view.gap / height
                if away >= 1:
                    break
                kept = distance > distance.max() * (1 - np.sqrt(1 - away**2))
                result[index] = (kept & mask).astype(np.float32)
        return result


def signed_distance(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """(H, W) distance in mm to the border of a non-empty mask, positive inside; beyond the slice is outside."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1]
    return inside - ndimage.distance_transform_edt(~mask, sampling=spacing)


def between_shapes(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    part: float,
    spacing: tuple[float, float],
    centred: bool = False,
) -> NDArray[np.bool_]:
    """Shape between two (H, W) masks, neither empty.

    Args:
        first: mask at `part` 0.
        second: mask at `part` 1.
        part: where between them, 0..1.
        spacing: (row, column) mm.
        centred: bring the centres together before blending, by whole pixels.
    """
    if centred:
        centres = [np.array(ndimage.center_of_mass(mask)) for mask in (first, second)]
        aim = (1 - part) * centres[0] + part * centres[1]
        first, second = (_moved(m, aim - c) for m, c in zip((first, second), centres, strict=True))
        if not first.any() or not second.any():
            return first | second
    return (1 - part) * signed_distance(first, spacing) + part * signed_distance(second, spacing) > 0


@dataclass(frozen=True)
class ShapeInterpolationPeer:
    """Prompt masks of a limnet model with shape interpolation in place of propagation.

    An empty prompted slice ends the object.

    Attributes:
        model: whose interaction network gives the prompt masks.
        reach: see `ShapeInterpolation`; the default was chosen on training volumes, likewise the next.
        centred: see `ShapeInterpolation`.
        precision: "auto", "fp32" or "bf16".
        device: where to compute; not part of the recorded configuration.
    """

    model: str = "limnet-tiny"
    reach: float = 1.5
    centred: bool = True
    precision: str = "auto"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "shape interpolation"

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the model's weights."""
        return {
            "class": type(self).__name__,
            "model": self._segmenter().identity,
            "reach": self.reach,
            "centred": self.centred,
            "precision": self.precision,
        }

    def _segmenter(self) -> InteractiveSegmenter:
        return prompt_model(self.model, self.precision, self.device)

    def start(self, volume: Volume, axis: int) -> LimnetSession:
        """Open a case; see `benchmarks.core.protocol.Predictor`."""
        carrier = ShapeInterpolation(self.reach, self.centred)
        return carried_session(self._segmenter(), volume, axis, carrier)


def _moved(mask: NDArray[np.bool_], by: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask moved by whole pixels; what leaves the slice is lost."""
    rows, columns = (int(v) for v in np.round(by))
    result = np.zeros_like(mask)
    height, width = mask.shape
    into = slice(max(rows, 0), height + min(rows, 0)), slice(max(columns, 0), width + min(columns, 0))
    out = slice(max(-rows, 0), height + min(-rows, 0)), slice(max(-columns, 0), width + min(-columns, 0))
    result[into] = mask[out]
    return result
