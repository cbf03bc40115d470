"""Stand-ins for parts of an engine: one that knows the truth, and ones that note what a network answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.core.rounds import LOSS
from limnet.case.case import Case
from limnet.case.fusion import keep_previous
from limnet.image.slice_view import SliceView
from limnet.image.slices import Slice
from limnet.metrics.masks import dice
from limnet.prompts import Prompt2D


class Around:
    """Stands before a part of an engine: what a subclass does not define is the part's own. Truth is bool (D, H, W)."""

    def __init__(self, inner: Any, truth: NDArray[np.bool_] | None = None) -> None:
        self.inner, self.truth = inner, np.zeros(0, bool) if truth is None else truth
        self.seen: list[list[float]] = []
        self.last: list[bool] = []
        self.every: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def counted(
        self, indices: Sequence[int], previous: Sequence[Slice], current: Sequence[Slice]
    ) -> NDArray[np.float64]:
        """(n, 5) pixels: shared with the truth and all of the previous mask, the same of the new one, of the truth."""
        rows = []
        for index, *masks in zip(indices, previous, current, strict=True):
            here = self.truth[index]
            pixels = [(np.count_nonzero((m > 0.5) & here), np.count_nonzero(m > 0.5)) for m in masks]
            rows.append([*pixels[0], *pixels[1], np.count_nonzero(here)])
        return np.array(rows, np.float64).reshape(-1, 5)


class TruePredictor(Around):
    """A predictor whose slices are always right: the robot as a person who corrects a slice before propagating it.

    Predictions in planes across the slices (`limnet.case.rounds.answer_on`) are still the network's.
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
        return previous_is_better(self.counted(indices, previous, current)).astype(np.float32)

    def quality(self, view: SliceView, index: int, mask: Slice) -> float:
        """True Dice of the mask."""
        return dice(mask > 0.5, self.truth[index])


class WatchedAssessor(Around):
    """Passes everything on and notes every comparison together with what the truth says about it."""

    def compare(
        self, view: SliceView, indices: Sequence[int], previous: Sequence[Slice], current: Sequence[Slice], *rest: Any
    ) -> NDArray[np.float32]:
        """What the inner assessor says."""
        answers = self.inner.compare(view, indices, previous, current, *rest)
        self.seen += np.column_stack([self.counted(indices, previous, current), answers]).tolist()
        return answers

    def drain(self) -> list[list[float]]:
        """The comparisons since the last call: rows of `counted`, each with the answer, the P of the previous mask."""
        seen, self.seen = self.seen, []
        return seen


class WatchedPredictor(Around):
    """Notes which clicks answers obey before the case makes them: `last` the newest ones, `every` all."""

    def predict(self, view: SliceView, index: int, prompts: Sequence[Prompt2D], *rest: Any) -> Slice:
        """What the inner predictor says."""
        answer = self.inner.predict(view, index, prompts, *rest)
        obeyed = [bool(answer[p.points[0]] > 0.5) == p.positive for p in prompts if p.kind == "click"]
        self.every += obeyed
        self.last += obeyed[-1:]
        return answer


class ChoosingSession:
    """A person who looks at the other answers after every click and takes the best one (`case.choose`).

    Attributes:
        steps: Dice of the volume after every click and after every choice, in order.
    """

    def __init__(self, case: Case, truth: NDArray[np.bool_]) -> None:
        self.case, self.truth = case, truth
        self.steps: list[float] = []

    def click(self, point: Sequence[int], positive: bool = True) -> NDArray[np.bool_]:
        """A round, done over with another answer to its click where that is better by more than `LOSS`."""
        mask = self.case.click(point, positive=positive)
        self.steps.append(dice(mask, self.truth))
        offered, here = self.case.alternatives(), self.truth[point[0]]
        scores = [dice(answer.mask, here) for answer in offered]
        if scores and max(scores) > dice(mask[point[0]], here) + LOSS:
            mask = self.case.choose(int(np.argmax(scores)))
            self.steps.append(dice(mask, self.truth))
        return mask


def previous_is_better(counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) by Dice of the slice; where that is equal (no object here) by the number of wrong pixels."""
    shared, area, truth = counts[:, 0:4:2], counts[:, 1:4:2], counts[:, 4:5]
    total = area + truth
    scores = np.where(total > 0, 2.0 * shared / np.maximum(total, 1), 1.0)
    wrong = total - 2 * shared
    return np.where(scores[:, 0] != scores[:, 1], scores[:, 0] > scores[:, 1], wrong[:, 0] < wrong[:, 1])


def step_of(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], seen: Sequence[ArrayLike], tau: float, others: Sequence[float]
) -> dict[str, Any]:
    """What the choice of one round brought, from the same masks and click.

    Args:
        mask: bool (D, H, W) after the round, fused with the threshold `tau`.
        truth: bool (D, H, W).
        seen: comparisons of the round, of `WatchedAssessor.drain`.
        tau: threshold the round was fused with.
        others: thresholds to try instead.

    Returns:
        Dice of the volume after the round, had the slices of two rounds been chosen in different ways: "new", every
        slice taken from the new round (no fusion); "fused", as the network chose; "oracle", the better mask of every
        slice; "taus", with each of `others`. On how many slices the two rounds differ ("compared"), and on how many of
        those the network chose the better one ("right").
    """
    counts = np.array(seen, np.float64)
    previous, current, p = counts[:, 0:2], counts[:, 2:4], counts[:, 5]
    kept, better = keep_previous(p, tau), previous_is_better(counts)

    def chosen(keep: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.where(keep[:, None], previous, current).sum(0)

    whole = np.array([np.count_nonzero(mask & truth), np.count_nonzero(mask)])
    rest, total = whole - chosen(kept), np.count_nonzero(truth)  # of the slices nobody chose between

    def outcome(keep: NDArray[np.bool_]) -> float:
        shared, area = rest + chosen(keep)
        return float(2.0 * shared / (area + total)) if area + total else 1.0

    differing = (previous != current).any(1)
    return {
        "new": outcome(np.zeros(len(p), bool)),
        "fused": outcome(kept),
        "oracle": outcome(better),
        "compared": int(differing.sum()),
        "right": int((kept == better)[differing].sum()),
        "taus": [outcome(keep_previous(p, other)) for other in others],
    }
