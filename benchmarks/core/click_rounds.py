"""The rounds of the published 2-D click counts: up to 20 clicks on one picture, each where the error is deepest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.protocol import Session, StartSession, Voxel
from benchmarks.core.rounds import RoundRow, checked_mask, fell, timed_mask
from limnet.errors import InputError
from limnet.metrics.interaction import click_compliance
from limnet.metrics.overlap import dice, iou
from limnet.simulation.reference_clicker import IGNORE, ReferenceClicker
from limnet.volume import Volume

QUALITIES = (0.85, 0.90)
"""IoU at which clicks are counted."""

Read = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class ClickRounds:
    """One click a round by RITM's robot: the deepest pixel of the missed or of the surplus pixels, whichever is deeper.

    Distances are exact and Euclidean, the border of the picture is an edge, no pixel is clicked twice. Nothing is
    drawn, so there is no seed. An object ends at `target`. Some start from a flawed mask: the first click corrects it,
    and it is not measured. `RoundRow.lost` looks at IoU here.

    Attributes:
        clicks: greatest number of clicks.
        target: IoU at which an object ends, `QUALITIES`' largest up to 1 (all clicks, until the mask is perfect).
        starts: case -> reads the mask to start from, (1, H, W); others start from nothing.
        voids: case -> reads the pixels that are not scored, bool (1, H, W).

    Raises:
        InputError: a number out of range.
    """

    clicks: int = 20
    target: float = QUALITIES[-1]
    starts: Mapping[str, Read] = field(default_factory=dict, repr=False, metadata={"config": False})
    voids: Mapping[str, Read] = field(default_factory=dict, repr=False, metadata={"config": False})

    def __post_init__(self) -> None:
        if self.clicks < 1:
            raise InputError(f"{self.clicks} clicks came; give at least 1")
        if not QUALITIES[-1] <= self.target <= 1:
            raise InputError(
                f"target is {self.target}; give an IoU from {QUALITIES[-1]} to 1: clicks to it are counted"
            )

    @property
    def rounds(self) -> int:
        """Number of clicks."""
        return self.clicks

    def play(
        self,
        session: Session,
        volume: Volume,
        truth: NDArray[np.bool_],
        axis: int,
        case: str = "",
        object: str = "",
    ) -> list[RoundRow]:
        """Play all rounds; see `Rounds.play`."""
        if truth.shape[0] != 1 or axis != 0:
            raise InputError(
                f"an object of shape {truth.shape} on axis {axis} came; clicks go on one picture, (1, H, W)"
            )
        counted = ~np.asarray(self.voids[case](), bool) if case in self.voids else np.ones(truth.shape, bool)
        wanted = truth & counted
        if not wanted.any():
            raise InputError("the object is empty: there is nothing to click on")
        clicker = ReferenceClicker(np.where(counted, wanted, IGNORE)[0])
        mask = self._start(session, truth.shape, case)
        given: list[tuple[Voxel, bool]] = []
        rows: list[RoundRow] = []
        for number in range(1, self.clicks + 1):
            row, column, positive = clicker.click(mask[0])
            mask, seconds = timed_mask(truth.shape, session.click, (0, row, column), positive)
            given.append(((0, row, column), positive))
            scored = mask & counted
            score = iou(scored, wanted)
            rows.append(
                RoundRow(
                    round=number,
                    dice=dice(scored, wanted),
                    zyx=(0, row, column),
                    positive=positive,
                    compliance=click_compliance(mask, given),
                    lost=fell(rows[-1].iou if rows else None, score),
                    seconds=seconds,
                    iou=score,
                )
            )
            if score >= self.target:
                break
        return rows

    def _start(self, session: Session, shape: tuple[int, ...], case: str) -> NDArray[np.bool_]:
        """The mask before the first click; the session is told of it."""
        if case not in self.starts:
            return np.zeros(shape, bool)
        if not isinstance(session, StartSession):
            raise InputError("this method takes no mask to start from; leave that part out with --part")
        mask = checked_mask(self.starts[case](), shape)
        session.start_from(mask)
        return mask
