"""Rounds for methods without a third dimension: every slice of the object gets a click in every round.

So SAM-B is prompted in the tables of the LIM-Net paper: "N points" (Tables IV and VI), "6 N points" (Table IV) and
"10 N points" (Table V).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.protocol import Session, Voxel
from benchmarks.core.rounds import RoundRow, fell, object_seed, surface_score, timed_mask
from limnet.errors import InputError
from limnet.metrics.interaction import click_compliance
from limnet.metrics.overlap import dice, slice_dice
from limnet.simulation.clicks import RobotUser
from limnet.volume import Volume


@dataclass(frozen=True)
class SlicePointRounds:
    """N points a round, N being the number of slices that hold the object: 6 rounds are "6 N points".

    The first point of a slice is the middle of the object there, every later one the middle of the largest error of
    that slice. Slices without object get none.

    Attributes:
        rounds: points on every slice.
        seed: see `RobotUser`.
        nsd_mm: tolerance of the surface Dice in mm; None leaves it out.
        off_centre: see `RobotUser`.
        jitter: see `RobotUser`, mm.
    """

    rounds: int = 6
    seed: int = 0
    nsd_mm: float | None = None
    off_centre: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}; give at least 1")

    def play(
        self,
        session: Session,
        volume: Volume,
        truth: NDArray[np.bool_],
        axis: int,
        case: str = "",
        object: str = "",
    ) -> list[RoundRow]:
        """Play all rounds; one row per round, without a clicked voxel as there are many."""
        seed = object_seed(case, object)
        robot = RobotUser(volume.spacing, axis, self.off_centre, self.jitter, seed=self.seed, case=seed)
        indices = np.flatnonzero(truth.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(indices):
            raise InputError("the object is empty: there is nothing to click on")
        mask = np.zeros(truth.shape, bool)
        clicks: list[tuple[Voxel, bool]] = []
        rows: list[RoundRow] = []
        for number in range(1, self.rounds + 1):
            seconds = 0.0
            for index in indices:
                here = tuple(slice(int(index), int(index) + 1) if a == axis else slice(None) for a in range(3))
                click = robot.next_click(truth[here], None if number == 1 else mask[here], number)
                if click is None:
                    continue
                voxel = list(click.zyx)
                voxel[axis] = int(index)
                zyx = voxel[0], voxel[1], voxel[2]
                mask, took = timed_mask(truth.shape, session.click, zyx, click.positive)
                seconds += took
                clicks.append((zyx, click.positive))
            score = dice(mask, truth)
            lost = fell(rows[-1].dice if rows else None, score)
            surface = surface_score(mask, truth, volume.spacing, self.nsd_mm)
            obeyed, sliced = click_compliance(mask, clicks), slice_dice(mask, truth, axis)
            rows.append(RoundRow(number, score, None, None, obeyed, lost, seconds, surface, dice_slices=sliced))
        return rows
