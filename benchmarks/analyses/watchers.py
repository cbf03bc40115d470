"""Stand-ins for parts of an engine: one that knows the truth, and ones that note what a network answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.case.engine import Slice
from limnet.case.fusion import keep_previous
from limnet.image.slice_view import SliceView
from limnet.metrics.overlap import dice
from limnet.prompts import Prompt2D


class Counts(NamedTuple):
    """What Dice needs to know of masks: pixels shared with the truth, and pixels of the mask."""

    shared: int
    area: int


class Comparison(NamedTuple):
    """One slice on which two rounds were compared.

    Attributes:
        slice_index: the slice.
        p: probability the network gave that the previous mask is better.
        previous: counts of the previous mask.
        current: counts of the new mask.
        truth: pixels of the object on this slice.
    """

    slice_index: int
    p: float
    previous: Counts
    current: Counts
    truth: int

    @property
    def lead(self) -> float:
        """How much better the previous mask is than the new one, in Dice of this slice."""
        return _dice(self.previous, self.truth) - _dice(self.current, self.truth)

    @property
    def previous_is_better(self) -> bool:
        """By Dice of the slice; where that is equal (no object here) by the number of wrong pixels."""
        if self.lead:
            return self.lead > 0
        return _wrong(self.previous, self.truth) < _wrong(self.current, self.truth)


class Around:
    """Stands before a part of an engine: what a subclass does not define is the part's own.

    Args:
        inner: the part.
        truth: bool (D, H, W), slices along axis 0, where a subclass needs it.
    """

    def __init__(self, inner: Any, truth: NDArray[np.bool_] | None = None) -> None:
        self.inner, self.truth = inner, np.zeros(0, bool) if truth is None else truth
        self.seen: list[Comparison] = []
        self.last: list[bool] = []
        self.every: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class TruePredictor(Around):
    """A predictor whose slices are always right: the robot as a person who corrects a slice before propagating it.

    Predictions in planes across the slices (`limnet.case.refinement.answer_on`) are still the network's.
    """

    def predict(self, view: SliceView, index: int, *rest: Any) -> Slice:
        """The true mask of the slice."""
        return self.inner.predict(view, index, *rest) if view.axis else self.truth[index].astype(np.float32)


class TrueAssessor(Around):
    """An assessor that knows the truth: it keeps the previous mask exactly where that is better (oracle fusion)."""

    def compare(
        self, view: SliceView, indices: Sequence[int], previous: Sequence[Slice], current: Sequence[Slice], *rest: Any
    ) -> NDArray[np.float32]:
        """(n,) 1 where the previous mask is better, 0 where it is not."""
        found = [_comparison(self.truth, *item) for item in zip(indices, previous, current, strict=True)]
        return np.array([float(c.previous_is_better) for c in found], dtype=np.float32)

    def quality(self, view: SliceView, indices: Sequence[int], masks: Sequence[Slice]) -> NDArray[np.float32]:
        """(n,) true Dice of each mask."""
        return np.array([dice(m > 0.5, self.truth[i]) for m, i in zip(masks, indices, strict=True)], dtype=np.float32)


class WatchedAssessor(Around):
    """Passes everything on and notes every comparison together with what the truth says about it."""

    def compare(
        self, view: SliceView, indices: Sequence[int], previous: Sequence[Slice], current: Sequence[Slice], *rest: Any
    ) -> NDArray[np.float32]:
        """What the inner assessor says."""
        answers = self.inner.compare(view, indices, previous, current, *rest)
        for item, p in zip(zip(indices, previous, current, strict=True), answers, strict=True):
            self.seen.append(_comparison(self.truth, *item, p=float(p)))
        return answers

    def drain(self) -> list[Comparison]:
        """The comparisons since the last call."""
        seen, self.seen = self.seen, []
        return seen


class WatchedPredictor(Around):
    """Passes everything on and notes whether the answer obeys its clicks, before the case makes it obey.

    Attributes:
        last: for every prediction, whether it gave the newest click its label.
        every: for every click of every prediction, whether it got its label.
    """

    def predict(self, view: SliceView, index: int, prompts: Sequence[Prompt2D], *rest: Any) -> Slice:
        """What the inner predictor says."""
        answer = self.inner.predict(view, index, prompts, *rest)
        obeyed = [bool(answer[p.points[0]] > 0.5) == p.positive for p in prompts if p.kind == "click"]
        self.every += obeyed
        self.last += obeyed[-1:]
        return answer


class Step(NamedTuple):
    """Dice of the volume after one round, had the slices of two rounds been chosen in different ways.

    Attributes:
        new: every slice taken from the new round (no fusion).
        fused: as the network chose.
        oracle: the better mask of every slice.
        compared: number of slices on which the two rounds differ.
        right: number of those where the network chose the better one.
    """

    new: float
    fused: float
    oracle: float
    compared: int
    right: int


def step_of(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], seen: Sequence[Comparison], tau: float, others: Sequence[float]
) -> tuple[Step, list[float]]:
    """What the choice of one round brought, from the same masks and the same click.

    Args:
        mask: bool (D, H, W) after the round, fused with `tau`.
        truth: bool (D, H, W).
        seen: comparisons of the round.
        tau: threshold the round was fused with.
        others: thresholds to try instead.

    Returns:
        The step, and the Dice for each of `others`.
    """
    kept = keep_previous([c.p for c in seen], tau)
    shared, area = int(np.count_nonzero(mask & truth)), int(np.count_nonzero(mask))
    for comparison, keep in zip(seen, kept, strict=True):  # what remains are the slices nobody chose between
        chosen = comparison.previous if keep else comparison.current
        shared, area = shared - chosen.shared, area - chosen.area
    total = int(np.count_nonzero(truth))

    def outcome(choice: Sequence[bool] | NDArray[np.bool_]) -> float:
        picks = [c.previous if keep else c.current for c, keep in zip(seen, choice, strict=True)]
        return _dice(Counts(shared + sum(p.shared for p in picks), area + sum(p.area for p in picks)), total)

    differing = [(c, bool(keep)) for c, keep in zip(seen, kept, strict=True) if c.previous != c.current]
    step = Step(
        new=outcome([False] * len(seen)),
        fused=outcome(kept),
        oracle=outcome([c.previous_is_better for c in seen]),
        compared=len(differing),
        right=sum(keep == c.previous_is_better for c, keep in differing),
    )
    return step, [outcome(keep_previous([c.p for c in seen], other)) for other in others]


def _comparison(
    truth: NDArray[np.bool_], index: int, previous: Slice, current: Slice, p: float = float("nan")
) -> Comparison:
    here = truth[index]
    return Comparison(index, p, _counts(previous > 0.5, here), _counts(current > 0.5, here), int(here.sum()))


def _counts(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Counts:
    return Counts(int(np.count_nonzero(mask & truth)), int(np.count_nonzero(mask)))


def _dice(counts: Counts, truth: int) -> float:
    total = counts.area + truth
    return 2.0 * counts.shared / total if total else 1.0


def _wrong(counts: Counts, truth: int) -> int:
    return counts.area + truth - 2 * counts.shared
