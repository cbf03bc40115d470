"""The loop over the rounds of one object: prompts by a rule, the method's answer, a row of measurements."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.method import BoxSession, NamedPredictor, PacedPredictor, Predictor, Session, StartSession, Voxel
from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.metrics.interaction import click_compliance
from limnet.metrics.overlap import dice, iou, slice_dice
from limnet.simulation.clicks import RobotClick, RobotUser

Mask = NDArray[np.bool_]
LOSS = 0.02  # a round lost quality when Dice or IoU fell by more than this (and rounding, 1e-9)
Prompt = tuple[Voxel, bool] | tuple[Voxel, Voxel]
"""A click, (zyx, positive), or a box, (lo, hi) with both corners inside."""

Chooser = Callable[["Mask | None", int], "RobotClick | None"]
Prompts = Generator[Sequence[Prompt], Mask, None]
"""Gives the prompts of a round, gets the mask after it, and so on; no prompts at all repeat the round before."""


class RoundRow(NamedTuple):
    """What was measured after one round.

    Attributes:
        round: counted from 1; 0 is a box before the first click.
        dice: of the whole volume, 0..1.
        zyx: the voxel clicked, None for a box, several clicks, or where nothing was left to correct.
        positive: the click's label, None without a click.
        compliance: share of all clicked voxels so far that have their label in the mask; None where none was clicked.
        lost: whether the quality, Dice or IoU, fell by more than `LOSS` against the round before.
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

    @property
    def quality(self) -> float:
        """IoU where it counts, else Dice."""
        return self.dice if self.iou is None else self.iou


def columns(rows: Sequence[RoundRow]) -> dict[str, list[Any]]:
    """Rounds of an object as lists: what was measured, clicks ([z, y, x, 1 or 0], None without one), seconds."""
    names = ("dice", "compliance", "lost", "nsd", "iou", "dice_slices")
    measured = [name for name in names if getattr(rows[-1], name) is not None]
    return {
        "rounds": [row.round for row in rows],
        **{name: [_rounded(getattr(row, name)) for row in rows] for name in measured},
        "clicks": [None if row.zyx is None else [*row.zyx, int(bool(row.positive))] for row in rows],
        "seconds": [round(row.seconds, 4) for row in rows],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


class Scene(NamedTuple):
    """One object to be played.

    Attributes:
        volume: the image.
        truth: bool (D, H, W).
        axis: slice axis.
        case: name of the case; names are for seeds and look-ups.
        object: name of the object.
        boxes: whether the method takes boxes.
    """

    volume: Volume
    truth: Mask
    axis: int
    case: str
    object: str
    boxes: bool


@dataclass(frozen=True)
class Rounds:
    """How an object is played; the fields are recorded with the results.

    A field with the metadata {"config": False} is not: what says where data lies, not what is done with it.
    """

    counts_iou = False  # clicks are counted to an IoU: no Dice per slice
    per_slice = True  # the mean Dice of slices is measured

    def prompts(self, scene: Scene, mask: Mask) -> Prompts:
        """The rule: prompts of one round after the other, from the mask before the first one, bool (D, H, W), on."""
        raise NotImplementedError

    def start(self, case: str) -> Mask | None:
        """The mask an object starts from, if it starts from one."""
        return None

    def scored(self, case: str) -> Mask | None:
        """The voxels that count; None where all do."""
        return None

    def done(self, quality: float) -> bool:
        """Whether an object ends at this Dice or IoU."""
        return False


def chosen(choose: Chooser, rounds: int) -> Prompts:
    """One click a round, from (mask so far or None, number of the round); ends where there is none."""
    so_far: Mask | None = None
    for number in range(1, rounds + 1):
        if (click := choose(so_far, number)) is None:
            return
        so_far = yield [(click.zyx, click.positive)]


@dataclass(frozen=True)
class ChosenRounds(Rounds):
    """One click a round as somebody chooses, see `chosen`."""

    choose: Chooser = field(repr=False)
    rounds: int = 6

    per_slice = False

    def prompts(self, scene: Scene, mask: Mask) -> Prompts:
        """See `Rounds.prompts`."""
        return chosen(self.choose, self.rounds)


@dataclass(frozen=True)
class RobotRounds(Rounds):
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

    def robot(self, scene: Scene) -> RobotUser:
        """The robot user of an object."""
        spacing, seed = scene.volume.spacing, object_seed(scene.case, scene.object)
        return RobotUser(spacing, scene.axis, self.off_centre, self.jitter, seed=self.seed, case=seed)

    def prompts(self, scene: Scene, mask: Mask) -> Prompts:
        """See `Rounds.prompts`."""
        robot = self.robot(scene)
        return chosen(lambda mask, number: robot.next_click(scene.truth, mask, number), self.rounds)


@dataclass(frozen=True)
class SlicePointRounds(RobotRounds):
    """N points a round, N being the number of slices that hold the object: 6 rounds are "6 N points".

    So SAM-B is prompted in the tables of the LIM-Net paper: "N points" (Tables IV and VI), "6 N points" (Table IV) and
    "10 N points" (Table V). The first point of a slice is the middle of the object there, every later one the middle of
    the largest error of that slice. Slices without object get none.
    """

    def prompts(self, scene: Scene, mask: Mask) -> Prompts:
        """See `Rounds.prompts`."""
        robot = self.robot(scene)
        truth, axis = scene.truth, scene.axis
        indices = np.flatnonzero(truth.any(axis=tuple(a for a in range(3) if a != axis)))
        for number in range(1, self.rounds + 1):
            clicks: list[Prompt] = []
            for index in indices:
                here = tuple(slice(int(index), int(index) + 1) if a == axis else slice(None) for a in range(3))
                click = robot.next_click(truth[here], None if number == 1 else mask[here], number)
                if click is not None:
                    z, y, x = (int(index) if a == axis else click.zyx[a] for a in range(3))
                    clicks.append(((z, y, x), click.positive))
            mask = yield clicks


class Turn(NamedTuple):
    """One round of an object.

    Attributes:
        row: what was measured.
        mask: bool (D, H, W) after it.
    """

    row: RoundRow
    mask: Mask


def play_object(
    predictor: Predictor,
    volume: Volume,
    truth: Mask,
    axis: int = 0,
    rounds: int | Rounds = 6,
    *,
    case: str = "",
    object: str = "",
) -> list[Turn]:
    """Segment one object with the simulated user, round after round.

    Args:
        predictor: the method.
        volume: the image.
        truth: bool (D, H, W), not empty.
        axis: slice axis.
        rounds: number of rounds, or how to play them; see `rounds_of`.
        case: name of the case; with `object` it seeds the robot and is told to predictors that want it.
        object: name of the object.

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
    return list(play(how, session, volume, truth, axis, case, object))


def play(
    rounds: Rounds, session: Session, volume: Volume, truth: Mask, axis: int = 0, case: str = "", object: str = ""
) -> Iterator[Turn]:
    """Prompt a session against the truth and measure, round after round.

    Raises:
        InputError: the object is empty, or the session cannot do what the protocol asks, or returns no mask.
    """
    counted = rounds.scored(case)
    wanted = truth if counted is None else truth & counted
    if not wanted.any():
        raise InputError("the object is empty: there is nothing to click on")
    mask = np.zeros(truth.shape, bool)
    if (begin := rounds.start(case)) is not None:
        if not isinstance(session, StartSession):
            raise InputError("this method takes no mask to start from; leave that part out with --part")
        mask = checked_mask(begin, truth.shape)
        session.start_from(mask)
    clicks: list[tuple[Voxel, bool]] = []
    row: RoundRow | None = None
    asked = rounds.prompts(Scene(volume, truth, axis, case, object, isinstance(session, BoxSession)), mask)
    prompts = next(asked, None)
    while prompts is not None:
        box = any(not isinstance(second, bool) for _, second in prompts)
        number, seconds = 0 if box else row.round + 1 if row else 1, 0.0
        for first, second in prompts:
            ask: Any = session.box if box else session.click  # type: ignore[attr-defined]
            begun = time.perf_counter()
            answer = ask(first, second)
            seconds += time.perf_counter() - begun
            mask = checked_mask(answer, truth.shape)
        clicks += [] if box else prompts  # type: ignore[arg-type]
        if row and not prompts:  # nothing is left to correct: the round repeats the one before
            row = row._replace(round=number, zyx=None, positive=None, lost=False, seconds=0.0)
        else:
            before, scored = row, mask if counted is None else mask & counted
            one = prompts[0] if len(prompts) == 1 and not box else None
            row = RoundRow(
                round=number,
                dice=dice(scored, wanted),
                zyx=None if one is None else one[0],
                positive=None if one is None else bool(one[1]),
                compliance=click_compliance(mask, clicks) if clicks else None,
                lost=False,
                seconds=seconds,
                nsd=surface_score(scored, wanted, volume.spacing, getattr(rounds, "nsd_mm", None)),
                iou=iou(scored, wanted) if rounds.counts_iou else None,
                dice_slices=slice_dice(scored, wanted, axis) if rounds.per_slice else None,
            )
            row = row._replace(lost=before is not None and before.quality - row.quality > LOSS + 1e-9)
        yield Turn(row, mask)
        if rounds.done(row.quality):
            return
        try:
            prompts = asked.send(mask)
        except StopIteration:
            return


def rounds_of(predictor: Predictor, played: Rounds) -> Rounds:
    """How a predictor is prompted where a benchmark plays `played`: its own rounds if it brings some.

    Raises:
        InputError: it does, and this benchmark's cannot be replaced.
    """
    return predictor.own_rounds(played) if isinstance(predictor, PacedPredictor) else played


def object_seed(case: str, object: str) -> int:
    """A number for an object that is the same on every machine and in every order of work."""
    return zlib.crc32(f"{case}\0{object}".encode())


def checked_mask(mask: Any, shape: tuple[int, ...]) -> Mask:
    """What a session returned as a bool array of the volume's shape.

    Raises:
        InputError: otherwise.
    """
    found = np.asarray(mask)
    if found.shape != shape or found.dtype.kind not in "biu":
        raise InputError(f"the method returned {found.dtype} {found.shape}; a bool mask of shape {shape} is expected")
    return np.asarray(found, dtype=bool)


def surface_score(mask: Mask, truth: Mask, spacing: tuple[float, ...], nsd_mm: float | None) -> float | None:
    """Surface Dice at a tolerance in mm; None without one."""
    if nsd_mm is None:
        return None
    from limnet.metrics.surface import normalized_surface_dice

    return normalized_surface_dice(mask, truth, spacing, nsd_mm)
