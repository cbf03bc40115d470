"""Peer: limnet's prompt masks, copied to every slice from the nearest prompted one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
class NearestCopy(SlicePropagator):
    """Propagator that copies.

    Attributes:
        reach: beyond the outermost prompted slice a mask is copied up to this many times the radius of the disk with
            its area.
    """

    reach: float

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
            limit = np.inf if span.limited else self.reach * area_radius(view, prompts[span.start] > 0.5)
            for index in span.slices:
                away = abs(index - span.start)
                if span.other is not None:
                    result[index] = prompts[span.start if away <= abs(span.other - index) else span.other]
                elif away * view.gap <= limit:
                    result[index] = prompts[span.start]
        return result


@dataclass(frozen=True)
class NearestCopyPeer:
    """Prompt masks of a limnet model with nearest-slice copy in place of propagation.

    An empty prompted slice ends the object.

    Attributes:
        model: whose interaction network gives the prompt masks.
        reach: see `NearestCopy`; the default was chosen on training volumes.
        precision: "auto", "fp32" or "bf16".
        device: where to compute; not part of the recorded configuration.
    """

    model: str = "limnet-tiny"
    reach: float = 0.6
    precision: str = "auto"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "nearest copy"

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the model's weights."""
        identity = self._segmenter().identity
        return {"class": type(self).__name__, "model": identity, "reach": self.reach, "precision": self.precision}

    def _segmenter(self) -> InteractiveSegmenter:
        return prompt_model(self.model, self.precision, self.device)

    def start(self, volume: Volume, axis: int) -> LimnetSession:
        """Open a case; see `benchmarks.core.protocol.Predictor`."""
        return carried_session(self._segmenter(), volume, axis, NearestCopy(self.reach))
