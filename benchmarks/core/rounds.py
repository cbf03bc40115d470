"""The robot loop: one object, click after click, a row of measurements after every round."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.protocol import NamedPredictor, PacedPredictor, Predictor, Session, Voxel
from benchmarks.core.watched import watched
from limnet.errors import InputError
from limnet.metrics.interaction import click_compliance
from limnet.metrics.overlap import dice, slice_dice
from limnet.simulation.clicks import RobotUser
from limnet.volume import Volume

LOSS = 0.02
"""A round lost quality when Dice fell by more than this (and rounding, 1e-9)."""


class RoundRow(NamedTuple):
    """What was measured after one round.

    Attributes:
        round: counted from 1; 0 is a box before the first click.
        dice: of the whole volume, 0..1.
        zyx: the voxel clicked, None for a box or where nothing was left to correct.
        positive: the click's label, None without a click.
        compliance: share of all clicked voxels so far that have their label in the mask; None where none was clicked.
        lost: whether Dice fell by more than `LOSS` against the round before.
        seconds: time of the round, of the method only.
        nsd: surface Dice at the protocol's tolerance, None if it was not asked for.
        iou: intersection over union, None if the protocol does not count in it.
        dice_slices: mean Dice of the slices that hold the object, None if the protocol has no use for it.
    """

    round: int
    dice: float
    zyx: Voxel | None
    positive: bool | None
    compliance: float | None
    lost: bool
    seconds: float
    nsd: float | None = None
    iou: float | None = None
    dice_slices: float | None = None

    def values(self) -> dict[str, float]:
        """The numbers for a table, those that there are; lost is 0 or 1. No times."""
        found = {"dice": self.dice, "compliance": self.compliance, "lost": float(self.lost), "nsd": self.nsd}
        found |= {"iou": self.iou, "dice_slices": self.dice_slices}
        return {name: value for name, value in found.items() if value is not None}


class Rounds(Protocol):
    """How an object is played: a frozen dataclass whose fields are recorded with the results.

    A field with the metadata {"config": False} is not: what says where data lies, not what is done with it.
    """

    @property
    def rounds(self) -> int:
        """Greatest number of rounds."""
        ...

    def play(
        self, session: Session, volume: Volume, truth: NDArray[np.bool_], axis: int, case: str, object: str
    ) -> list[RoundRow]:
        """Prompt the session against the truth and measure; one row per round. Names are for seeds and look-ups."""
        ...


@dataclass(frozen=True)
class RobotRounds:
    """One click a round by the robot user: first the middle of the object, then the middle of the largest error.

    Attributes:
        rounds: greatest number of rounds; an object ends earlier when nothing is left to correct.
        off_centre: see `RobotUser`.
        jitter: see `RobotUser`, mm.
        seed: see `RobotUser`.
        nsd_mm: tolerance of the surface Dice in mm; None leaves it out (it costs a distance map per round).
    """

    rounds: int = 6
    off_centre: bool = False
    jitter: float = 0.0
    seed: int = 0
    nsd_mm: float | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}; give at least 1")
        if not (math.isfinite(self.jitter) and self.jitter >= 0):
            raise InputError(f"jitter is {self.jitter}; give a distance of 0 mm or more")

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
        seed = object_seed(case, object)
        robot = RobotUser(volume.spacing, axis, self.off_centre, self.jitter, seed=self.seed, case=seed)
        mask: NDArray[np.bool_] | None = None
        clicks: list[tuple[Voxel, bool]] = []
        rows: list[RoundRow] = []
        for number in range(1, self.rounds + 1):
            click = robot.next_click(truth, mask, number)
            if click is None:
                break
            mask, seconds = timed_mask(truth.shape, session.click, click.zyx, click.positive)
            clicks.append((click.zyx, click.positive))
            score = dice(mask, truth)
            rows.append(
                RoundRow(
                    round=number,
                    dice=score,
                    zyx=click.zyx,
                    positive=click.positive,
                    compliance=click_compliance(mask, clicks),
                    lost=fell(rows[-1].dice if rows else None, score),
                    seconds=seconds,
                    nsd=surface_score(mask, truth, volume.spacing, self.nsd_mm),
                    dice_slices=slice_dice(mask, truth, axis),
                )
            )
        if not rows:
            raise InputError("the object is empty: there is nothing to click on")
        return rows


def run_object(
    predictor: Predictor,
    volume: Volume,
    truth: NDArray[np.bool_],
    axis: int = 0,
    rounds: int | Rounds = 6,
    *,
    case: str = "",
    object: str = "",
    on_end: Callable[[NDArray[np.bool_]], None] | None = None,
) -> list[RoundRow]:
    """Segment one object with the robot user and return a row per round.

    Args:
        predictor: the method.
        volume: the image.
        truth: bool (D, H, W), not empty.
        axis: slice axis.
        rounds: number of rounds, or how to play them; see `rounds_of`.
        case: name of the case; with `object` it seeds the robot and is told to predictors that want it.
        object: name of the object.
        on_end: called with the last mask.

    Raises:
        InputError: truth empty or of another shape than the volume, or a method that returns no mask of the volume.
    """
    if truth.shape != volume.shape:
        raise InputError(f"the truth has shape {truth.shape}, the image {volume.shape}; they must be on one grid")
    how = rounds_of(predictor, RobotRounds(rounds) if isinstance(rounds, int) else rounds)
    if isinstance(predictor, NamedPredictor):
        session = predictor.start_named(volume, axis, case, object)
    else:
        session = predictor.start(volume, axis)
    seen = watched(session)
    rows = how.play(seen, volume, truth, axis, case, object)
    if on_end is not None and seen.mask is not None:
        on_end(checked_mask(seen.mask, truth.shape))
    return rows


def rounds_of(predictor: Predictor, played: Rounds) -> Rounds:
    """How a predictor is prompted where a benchmark plays `played`: its own rounds if it brings some.

    Raises:
        InputError: it does, and this benchmark's cannot be replaced.
    """
    return predictor.own_rounds(played) if isinstance(predictor, PacedPredictor) else played


def object_seed(case: str, object: str) -> int:
    """A number for an object that is the same on every machine and in every order of work."""
    return zlib.crc32(f"{case}\0{object}".encode())


def timed_mask(shape: tuple[int, ...], ask: Callable[..., Any], *prompt: Any) -> tuple[NDArray[np.bool_], float]:
    """What a session answers to a prompt, as `checked_mask` gives it, and the seconds it took.

    Args:
        shape: of the volume.
        ask: method of the session, such as `session.click`.
        prompt: its arguments.
    """
    start = time.perf_counter()
    answer = ask(*prompt)
    seconds = time.perf_counter() - start
    return checked_mask(answer, shape), seconds


def fell(before: float | None, after: float) -> bool:
    """Whether a round lost quality (`LOSS`); None before the first one."""
    return before is not None and before - after > LOSS + 1e-9


def checked_mask(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """What a session returned as a bool array of the volume's shape.

    Raises:
        InputError: otherwise.
    """
    found = np.asarray(mask)
    if found.shape != shape or found.dtype.kind not in "biu":
        raise InputError(f"the method returned {found.dtype} {found.shape}; a bool mask of shape {shape} is expected")
    return np.asarray(found, dtype=bool)


def surface_score(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: tuple[float, ...], nsd_mm: float | None
) -> float | None:
    """Surface Dice at a tolerance in mm; None without one."""
    if nsd_mm is None:
        return None
    from limnet.metrics.surface import normalized_surface_dice

    return normalized_surface_dice(mask, truth, spacing, nsd_mm)
