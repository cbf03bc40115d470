"""A method and how it is prompted: a Predictor opens a volume, its Session answers `Rounds` of prompts; limnet as one.

A method is a small frozen dataclass with `name` and `start`; its fields are its configuration, which is recorded and
hashed with every result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from limnet.case.case import Case
from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.metrics.interaction import click_compliance
from limnet.metrics.masks import dice, iou, normalized_surface_dice, slice_dice
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings
from limnet.simulation.clicks import RobotClick, RobotUser

Voxel = tuple[int, int, int]
Mask = NDArray[np.bool_]
METHODS = ("ours", "paper")
LOSS = 0.02  # a round lost quality when Dice or IoU fell by more than this (and rounding, 1e-9)
METRICS = ("dice", "compliance", "lost", "nsd", "iou", "dice_slices")
"""What is measured after a round, in the order of result files; seconds are kept apart, they differ from run to run."""

Prompt = tuple[Voxel, bool] | tuple[Voxel, Voxel]
"""A click, (zyx, positive), or a box, (lo, hi) with both corners inside."""

Chooser = Callable[["Mask | None", int], "RobotClick | None"]
Prompts = Generator[Sequence[Prompt], Mask, None]
"""Gives the prompts of a round, gets the mask after it, and so on; no prompts at all repeat the round before."""


class Session(Protocol):
    """One object being segmented in one volume; masks are bool (D, H, W), and the caller does not change them.

    A session may have two methods more: `box(lo, hi) -> mask` takes a box with corners (z, y, x), both inclusive, for
    protocols that begin with one (lo[axis] == hi[axis] is a box on one slice); `start_from(mask)` takes a flawed mask
    before the first click, which the clicks then correct.
    """

    def click(self, zyx: Voxel, positive: bool) -> Mask:
        """Take one click on the object (positive) or off it, in array order, and return the whole mask."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """A method to benchmark. Holds configuration only: nothing of one case may influence the next.

    Must be picklable (it travels to other processes): weights are loaded on first use, outside of it. Make it a frozen
    dataclass: then `predictor_config` records its fields. Other classes add `describe()`. One that is prompted in
    another way than the benchmark plays, such as on every slice of the object, adds `own_rounds(played)`: the rounds to
    play instead, the same again when given what it returned; it raises InputError where they cannot be replaced.
    """

    @property
    def name(self) -> str:
        """Short name for tables, such as "random walker"."""
        ...

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> Session:
        """Begin one object.

        Args:
            volume: the image in raw units; (D, H, W) or (T, H, W, 3).
            axis: the slice axis, 0, 1 or 2.
            case: name as in the result file, for methods that look something up.
            object: likewise.
        """
        ...


def predictor_config(predictor: Predictor) -> dict[str, Any]:
    """The configuration of a predictor as JSON types: `describe()` if it has one, else its class and fields."""
    describe = getattr(predictor, "describe", None)
    if callable(describe):
        found = dict(describe())
    else:
        given: Any = dataclasses.fields(predictor) if dataclasses.is_dataclass(predictor) else ()
        found = {"class": type(predictor).__name__, **{f.name: getattr(predictor, f.name) for f in given}}
    found["name"] = predictor.name
    return json.loads(json.dumps(found, default=_plain, sort_keys=True))


def config_hash(config: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a JSON configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.as_posix() if isinstance(value, Path) else str(value)


@lru_cache(maxsize=2)
def loaded(model: str, precision: str, device: str = "cpu") -> InteractiveSegmenter:
    """A limnet model, kept for the following cases."""
    return InteractiveSegmenter.from_pretrained(model, device=device, precision=precision)


class LimnetSession:
    """One case of limnet; takes clicks, boxes and a mask to start from."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.click, self.box = case.click, case.box

    def start_from(self, mask: Mask) -> None:
        """Begin with a mask, bool (D, H, W), that clicks may change; an empty one is nothing."""
        if mask.any():
            self.case.set_mask(mask, frozen=False)


@dataclass(frozen=True)
class LimnetPredictor:
    """A model folder or zoo name with the settings of one run.

    Attributes:
        model: zoo name, model folder or Hub id.
        settings: settings to override, by their names in `Settings`.
        device: where to compute.
        precision: "auto", "fp32" or "bf16".
        method: where settings start from: "ours", the model's own, or "paper", `Settings.paper()`.

    Raises:
        InputError: another method, or settings that there are not.
    """

    model: str = "limnet-tiny"
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    precision: str = "auto"
    method: str = "ours"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}; allowed are {' and '.join(METHODS)}")
        unknown = set(self.settings) - set(Settings.__dataclass_fields__)
        if unknown:
            raise InputError(
                f"unknown settings {', '.join(sorted(unknown))}; known are {', '.join(Settings.__dataclass_fields__)}"
            )

    @property
    def name(self) -> str:
        """The model with the method, where it is not its own, and what differs from that."""
        method = [] if self.method == "ours" else [f"({self.method})"]
        return " ".join([str(self.model), *method, *(f"{k}={v}" for k, v in self.settings.items())])

    @property
    def segmenter(self) -> InteractiveSegmenter:
        """The loaded model."""
        return loaded(self.model, self.precision, self.device)

    @property
    def chosen_settings(self) -> Settings:
        """The settings of every case; loads the model where they are its own."""
        return replace(Settings.paper() if self.method == "paper" else self.segmenter.settings, **self.settings)

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        return {
            "class": "LimnetPredictor",
            **({} if self.method == "ours" else {"method": self.method}),
            "model": self.segmenter.identity,
            "settings": self.chosen_settings.to_json(),
            "precision": self.precision,
        }

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> Any:
        """Open a case; see `Predictor.start`."""
        return LimnetSession(self.segmenter.open(volume, axis=axis, settings=self.chosen_settings))


class Target(NamedTuple):
    """One object with its image: the name is unique within the case, group is the row of the tables it belongs to."""

    case: str
    object: str
    group: str
    volume: Volume
    truth: Mask
    axis: int = 0

    @property
    def number(self) -> int:
        """Seeds what is random about it; the same on every machine and in every order of work."""
        return zlib.crc32(f"{self.case}\0{self.object}".encode())


class Turn(NamedTuple):
    """One round of an object, and what was measured after it.

    Attributes:
        round: counted from 1; 0 is a box before the first click.
        mask: bool (D, H, W).
        dice: of the whole volume, 0..1; `iou` and `dice_slices` (mean of the slices that hold the object) likewise.
        zyx: the voxel clicked, None for a box, several clicks, or where nothing was left to correct.
        positive: the click's label, None without a click.
        compliance: share of all clicked voxels so far that have their label in the mask; None where none was clicked.
        lost: whether the quality, Dice or IoU, fell by more than `LOSS` against the round before.
        seconds: time of the round, of the method only.
        nsd: surface Dice at the protocol's tolerance; None, as iou and dice_slices, where a protocol does without.
    """

    round: int
    mask: Mask
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


def columns(turns: Iterable[Turn]) -> dict[str, list[Any]]:
    """Rounds of an object as lists: what was measured, clicks ([z, y, x, 1 or 0], None without one), seconds."""
    turns = list(turns)
    found = {name: [getattr(turn, name) for turn in turns] for name in METRICS if getattr(turns[-1], name) is not None}
    return {
        "rounds": [turn.round for turn in turns],
        **{name: [None if v is None else round(float(v), 6) for v in values] for name, values in found.items()},
        "clicks": [None if turn.zyx is None else [*turn.zyx, int(bool(turn.positive))] for turn in turns],
        "seconds": [round(turn.seconds, 4) for turn in turns],
    }


@dataclass(frozen=True)
class Rounds:
    """How an object is played; the fields are recorded with the results.

    A field with the metadata {"config": False} is not: what says where data lies, not what is done with it.
    """

    counts_iou = False  # clicks are counted to an IoU: no Dice per slice
    per_slice = True  # the mean Dice of slices is measured

    def prompts(self, target: Target, mask: Mask, boxes: bool) -> Prompts:
        """The rule: prompts of one round after the other, from the mask before the first, bool (D, H, W), on.

        `boxes` tells whether the method takes boxes.
        """
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


@dataclass(frozen=True)
class ChosenRounds(Rounds):
    """One click a round as `choose` says, from (mask so far or None, number of the round); ends where it gives none."""

    choose: Chooser
    rounds: int = 6

    per_slice = False

    def prompts(self, target: Target, mask: Mask, boxes: bool) -> Prompts:
        """See `Rounds.prompts`."""
        so_far: Mask | None = None
        for number in range(1, self.rounds + 1):
            if (click := self.choose(so_far, number)) is None:
                return
            so_far = yield [(click.zyx, click.positive)]


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

    def robot(self, target: Target) -> RobotUser:
        """The robot user of an object."""
        place = {"seed": self.seed, "case": target.number}
        return RobotUser(target.volume.spacing, target.axis, self.off_centre, self.jitter, **place)

    def prompts(self, target: Target, mask: Mask, boxes: bool) -> Prompts:
        """See `Rounds.prompts`."""
        robot = self.robot(target)
        rule = ChosenRounds(lambda mask, number: robot.next_click(target.truth, mask, number), self.rounds)
        return rule.prompts(target, mask, boxes)


@dataclass(frozen=True)
class SlicePointRounds(RobotRounds):
    """N points a round, N being the number of slices that hold the object: 6 rounds are "6 N points".

    So SAM-B is prompted in the tables of the LIM-Net paper: "N points" (Tables IV and VI), "6 N points" (Table IV) and
    "10 N points" (Table V). The first point of a slice is the middle of the object there, every later one the middle of
    the largest error of that slice. Slices without object get none.
    """

    def prompts(self, target: Target, mask: Mask, boxes: bool) -> Prompts:
        """See `Rounds.prompts`."""
        robot, truth, axis = self.robot(target), target.truth, target.axis
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


def play_object(predictor: Predictor, target: Target, rounds: Rounds) -> list[Turn]:
    """Segment one object from its first round on, by the predictor's own rounds where it has some."""
    truth, volume = target.truth, target.volume
    if truth.shape != volume.shape:
        raise InputError(f"the truth has shape {truth.shape}, the image {volume.shape}; they must be on one grid")
    how = rounds_of(predictor, rounds)
    return list(play(how, predictor.start(volume, target.axis, target.case, target.object), target))


def play(rounds: Rounds, session: Any, target: Target) -> Iterator[Turn]:
    """Prompt a session against the truth and measure, round after round.

    Raises:
        InputError: the object is empty, or the session cannot do what the protocol asks, or returns no mask.
    """
    truth, spacing, nsd_mm = target.truth, target.volume.spacing, getattr(rounds, "nsd_mm", None)
    counted = rounds.scored(target.case)
    wanted = truth if counted is None else truth & counted
    if not wanted.any():
        raise InputError("the object is empty: there is nothing to click on")
    mask = np.zeros(truth.shape, bool)
    if (begin := rounds.start(target.case)) is not None:
        if not hasattr(session, "start_from"):
            raise InputError("this method takes no mask to start from; leave that part out with --part")
        mask = checked_mask(begin, truth.shape)
        session.start_from(mask)
    clicks: list[tuple[Voxel, bool]] = []
    turn: Turn | None = None
    asked = rounds.prompts(target, mask, hasattr(session, "box"))
    prompts = next(asked, None)
    while prompts is not None:
        box = any(not isinstance(second, bool) for _, second in prompts)
        number, seconds = 0 if box else turn.round + 1 if turn else 1, 0.0
        for first, second in prompts:
            ask = session.box if box else session.click
            begun = time.perf_counter()
            answer = ask(first, second)
            seconds += time.perf_counter() - begun
            mask = checked_mask(answer, truth.shape)
        clicks += [] if box else prompts  # type: ignore[arg-type]
        if turn and not prompts:  # nothing is left to correct: the round repeats the one before
            turn = turn._replace(round=number, zyx=None, positive=None, lost=False, seconds=0.0)
        else:
            before, scored = turn, mask if counted is None else mask & counted
            one = prompts[0] if len(prompts) == 1 and not box else None
            turn = Turn(
                round=number,
                mask=mask,
                dice=dice(scored, wanted),
                zyx=None if one is None else one[0],
                positive=None if one is None else bool(one[1]),
                compliance=click_compliance(mask, clicks) if clicks else None,
                lost=False,
                seconds=seconds,
                nsd=None if nsd_mm is None else normalized_surface_dice(scored, wanted, spacing, nsd_mm),
                iou=iou(scored, wanted) if rounds.counts_iou else None,
                dice_slices=slice_dice(scored, wanted, target.axis) if rounds.per_slice else None,
            )
            turn = turn._replace(lost=before is not None and before.quality - turn.quality > LOSS + 1e-9)
        yield turn
        if rounds.done(turn.quality):
            return
        try:
            prompts = asked.send(mask)
        except StopIteration:
            return


def rounds_of(predictor: Predictor, played: Rounds) -> Rounds:
    """How a predictor is prompted where a benchmark plays `played`: its own rounds if it brings some."""
    return getattr(predictor, "own_rounds", lambda rounds: rounds)(played)


def checked_mask(mask: Any, shape: tuple[int, ...]) -> Mask:
    """What a session returned as a bool array of the volume's shape; raises InputError otherwise."""
    found = np.asarray(mask)
    if found.shape != shape or found.dtype.kind not in "biu":
        raise InputError(f"the method returned {found.dtype} {found.shape}; a bool mask of shape {shape} is expected")
    return np.asarray(found, dtype=bool)
