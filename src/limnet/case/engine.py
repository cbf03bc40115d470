"""What a round works with: the three networks at work, and the context of one object's rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limnet.image.slices import SliceMask, pack
from limnet.settings import Scope, Settings

if TYPE_CHECKING:
    from limnet.case.history import ObjectState
    from limnet.case.live import Live
    from limnet.image.slice_view import SliceView
    from limnet.interaction.features import FeatureCache
    from limnet.interaction.predictor import SlicePredictor
    from limnet.quality.assessor import Assessor

Slice = NDArray[np.float32]
"""(H, W) float32 probabilities in [0, 1] of one slice; the object is where they are > 0.5."""
Progress = Callable[[int, int], object]
"""Called with (done, total) slices; returning False cancels the round."""


class SlicePropagator(Protocol):
    """Propagation: prompted slices to the slices around them; see `limnet.propagation.propagator.Propagator`."""

    def propagate(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        origin: int,
        scope: Scope,
        known: Callable[[int], Slice],
        progress: Progress | None,
        found: Callable[[int, Slice], None] | None = None,
    ) -> Mapping[int, Slice]:
        """New probabilities of the slices it computed, never of prompted ones.

        `found` is given only where somebody looks. It may be called more than once for a slice, or never: the result
        counts.
        """
        ...

    def carry(self, view: SliceView, prompts: Mapping[int, Slice], origin: int, target: int) -> Slice | None:
        """Slice `target`, not prompted, as propagated from `origin`; None if propagation ends before.

        None unless a propagator says more: then earlier prompts are not predicted again.
        """
        return None


@dataclass(frozen=True)
class Engine:
    """The three networks at work; made anew for every case, since they share one cache of image features.

    Anything with their methods may stand in for them.

    Attributes:
        predictor: The interaction network at work.
        propagator: The propagation network at work.
        assessor: The quality network at work; None takes the new mask of every slice (no fusion).
        identity: What the networks are (names, weights' hash), stored in session files.
        cache: Image features of the case, shared by the three.
        fusion: False takes the new masks although there is an assessor (one without a network, for quality only).
    """

    predictor: SlicePredictor | Any
    propagator: SlicePropagator
    assessor: Assessor | Any | None = None
    identity: dict[str, Any] | None = None
    fusion: bool = True
    cache: FeatureCache | None = None

    @property
    def held_bytes(self) -> int:
        """Memory of the image features kept for this case."""
        return 0 if self.cache is None else self.cache.bytes

    def forget(self) -> None:
        """Let go of the image features; they are computed again when they are needed."""
        if self.cache is not None:
            self.cache.clear()


@dataclass(frozen=True)
class RoundContext:
    """What the rounds of one object work with.

    Attributes:
        engine: The three networks.
        view: The volume along the case's axis.
        settings: Settings of the case.
        fixed_window: Whether the user chose the intensity window (then objects do not choose their own).
        excluded: Gives the (H, W) pixels of a slice that belong to finished other objects, or None.
        live: Tells a screen what changes while a round runs, or None.
    """

    engine: Engine
    view: SliceView
    settings: Settings
    fixed_window: bool
    excluded: Callable[[int], NDArray[np.bool_] | None]
    live: Live | None = None

    def view_of(self, state: ObjectState) -> SliceView:
        """The view with the object's intensity window."""
        return self.view if state.window is None else self.view.with_window(state.window)

    def packed(self, index: int, probability: Slice) -> SliceMask | None:
        """Store a slice without the pixels of finished other objects."""
        taken = self.excluded(index)
        return pack(probability if taken is None else np.where(taken, np.float32(0), probability))
