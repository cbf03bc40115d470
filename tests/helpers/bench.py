"""Fake cases and a trivial method for benchmark tests; top-level and picklable, so that processes can share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from benchmarks.core.record import Record
from benchmarks.core.rounds import RobotRounds, Rounds, Target, Turn, play_object
from benchmarks.core.run import run_suite
from benchmarks.core.suite import ObjectChoice, Suite
from limnet.data.dataset import LabelledCase
from limnet.image.volume import Volume

SHAPE = (6, 24, 24)


def labels(seed: int) -> np.ndarray:
    """A large organ (1), two lesions (2) and a speck (3)."""
    found = np.zeros(SHAPE, np.uint8)
    found[:, 2 : 10 + seed % 4, 2:12] = 1
    found[1:4, 14:19, 2:7] = 2
    found[1:5, 14:20, 14:20] = 2
    found[0, 0, 20] = 3
    return found


def image(seed: int, broken: bool = False) -> Volume:
    if broken:
        raise OSError("disk on fire")
    rng = np.random.default_rng(seed)
    return Volume.from_array(labels(seed) * 100.0 + rng.normal(0, 5, SHAPE), (3.0, 1.0, 1.0))


def fake_case(number: int, broken: bool = False) -> LabelledCase:
    return LabelledCase(
        f"case_{number:02d}",
        f"p{number}",
        "ct",
        {1: "organ", 2: "lesion", 3: "speck"},
        partial(image, number, broken),
        partial(labels, number),
    )


def fake_suite(number: int = 3, broken: tuple[int, ...] = (), rounds: int = 3) -> Suite:
    cases = [fake_case(i, i in broken) for i in range(number)]
    return Suite("fake", "Fake", cases, RobotRounds(rounds), ObjectChoice(smallest=20))


def completed(*arguments: Any, **options: Any) -> Record:
    """What a suite gives in the first process."""
    results = run_suite(*arguments, **options)
    assert results is not None
    return results


def run_object(
    predictor: Any,
    volume: Volume,
    truth: np.ndarray,
    axis: int = 0,
    rounds: int | Rounds = 6,
    *,
    case: str = "",
    object: str = "",
) -> list[Turn]:
    """The rounds of an object."""
    how = RobotRounds(rounds) if isinstance(rounds, int) else rounds
    return play_object(predictor, Target(case, object, "", volume, truth, axis), how)


class DiscSession:
    def __init__(self, shape: tuple[int, ...], axis: int, radius: float) -> None:
        self.mask = np.zeros(shape, bool)
        self.axis, self.radius = axis, radius

    def click(self, zyx: tuple[int, int, int], positive: bool) -> np.ndarray:
        grid = np.indices(self.mask.shape)
        far = sum((grid[a] - zyx[a]) ** 2 for a in range(3) if a != self.axis)
        self.mask = np.where(far <= self.radius**2, positive, self.mask)
        return self.mask


@dataclass(frozen=True)
class Disc:
    """Marks a cylinder of some radius around every positive click, and takes one away around negative ones."""

    radius: float = 4.0
    fail_on: str = ""

    session: ClassVar[type[DiscSession]] = DiscSession

    @property
    def name(self) -> str:
        return f"disc {self.radius:g}"

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> DiscSession:
        if self.fail_on and self.fail_on in f"{case} {object}":
            raise RuntimeError("this method\nhas no idea")
        return self.session(volume.shape, axis, self.radius)


class Answers:
    """A method that answers every click, (zyx, positive), with the mask that a function gives."""

    name = "answers"

    def __init__(self, click: Callable[..., np.ndarray]) -> None:
        self.click = click

    def start(self, *_: Any) -> Answers:
        return self


class BoxSession(DiscSession):
    def box(self, lo: tuple[int, int, int], hi: tuple[int, int, int]) -> np.ndarray:
        self.mask = np.zeros_like(self.mask)
        self.mask[tuple(slice(a, b + 1) for a, b in zip(lo, hi, strict=True))] = True
        return self.mask


@dataclass(frozen=True)
class Boxer:
    """Fills the box; clicks are discs of radius 1."""

    name: str = "boxer"

    def start(self, volume, axis, case, object):
        return BoxSession(volume.shape, axis, 1.0)


class StartDiscSession(DiscSession):
    def start_from(self, mask: np.ndarray) -> None:
        self.mask = mask.copy()


@dataclass(frozen=True)
class StartDisc(Disc):
    """Discs around clicks, on top of a mask to start from."""

    session = StartDiscSession

    @property
    def name(self) -> str:
        return f"start {super().name}"
