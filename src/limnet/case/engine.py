"""The three networks at work behind a case, as the case sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limnet.prompts import Prompt2D
from limnet.settings import Scope

if TYPE_CHECKING:
    from limnet.image.slice_view import SliceView
    from limnet.interaction.features import FeatureCache
    from limnet.interaction.neighbour import Neighbour
    from limnet.quality.prompted import Prompted

Slice = NDArray[np.float32]
Progress = Callable[[int, int], object]
"""Called with (done, total) slices; returning False cancels the round."""


class Predictor(Protocol):
    """Interaction: prompts on one slice to its mask."""

    def predict(
        self,
        view: SliceView,
        index: int,
        prompts: Sequence[Prompt2D],
        previous: Slice | None,
        nearest: Neighbour | None = None,
    ) -> Slice:
        """(H, W) float32 probability of slice `index`.

        Args:
            view: The volume along the case's axis.
            index: The slice.
            prompts: Its prompts, oldest first.
            previous: Its probabilities so far, None if there are none.
            nearest: The nearest other prompted slice that holds the object, None if there is none.
        """
        ...

    def looks(
        self, view: SliceView, index: int, prompts: Sequence[Prompt2D], previous: Slice | None
    ) -> Sequence[Slice]:
        """Other answers than that of `predict`, for a user to choose from (`limnet.case.alternatives`)."""
        ...


class SlicePropagator(Protocol):
    """Propagation: prompted slices to the slices around them."""

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
    ) -> Mapping[int, Slice]:
        """New (H, W) float32 probabilities of the slices it computed, never of prompted ones.

        Args:
            view: The volume along the case's axis.
            prompts: Every prompted slice with its probability.
            origin: The slice prompted last.
            scope: "volume" or "interval".
            known: Gives the current result of a slice.
            progress: Told (done, total) after each slice.
            within: First and last slice the object is known to reach; given only where something is known.
            found: Told every slice with its probabilities as soon as it is computed, for a screen; given only where
                somebody looks. It may be called more than once for a slice, or never: the result counts.
        """
        ...

    def carry(self, view: SliceView, prompts: Mapping[int, Slice], origin: int, target: int) -> Slice | None:
        """(H, W) probabilities of slice `target`, not prompted, as carried from `origin`; None if it ends before.

        None unless a propagator says more: then rounds do not look back (see `limnet.case.look_back`).
        """
        return None


class QualityAssessor(Protocol):
    """Quality: which of two masks is better, and how good one is."""

    def compare(
        self,
        view: SliceView,
        indices: Sequence[int],
        previous: Sequence[Slice],
        current: Sequence[Slice],
        prompted: Prompted | None = None,
    ) -> NDArray[np.float32]:
        """(n,) probability that the previous mask is the better one; `prompted` is what the user said."""
        ...

    def quality(self, view: SliceView, indices: Sequence[int], masks: Sequence[Slice]) -> NDArray[np.float32]:
        """(n,) estimated quality in [0, 1]."""
        ...


@dataclass(frozen=True)
class Engine:
    """What a case calls; made anew for every case, since the three share one cache of image features.

    Attributes:
        predictor: The interaction network at work.
        propagator: The propagation network at work.
        assessor: The quality network at work; None takes the new mask of every slice (no fusion).
        identity: What the networks are (names, weights' hash), stored in session files.
        cache: Image features of the case, shared by the three.
        fusion: False takes the new masks although there is an assessor (one without a network, for quality only).
    """

    predictor: Predictor
    propagator: SlicePropagator
    assessor: QualityAssessor | None = None
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
