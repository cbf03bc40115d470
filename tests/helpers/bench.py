"""Fake cases, scenes and trivial methods for benchmarks; top-level and picklable, so that processes can share them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from benchmarks.baselines.carried import carried_session
from benchmarks.core.record import Record
from benchmarks.core.rounds import LimnetSession, RobotRounds, Rounds, Session, Target, Turn, play, play_object
from benchmarks.core.run import run_suite
from benchmarks.core.suite import ObjectChoice, Suite
from limnet.case.state import Engine, SlicePropagator
from limnet.data.dataset import LabelledCase
from limnet.image.volume import Volume
from limnet.quality.assessor import Assessor
from limnet.settings import Settings
from tests.helpers.fake_engine import ThresholdPropagator, fake_engine, phantom

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


def mm(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> list[np.ndarray]:
    """Distances in mm from the middle of the volume along z, y, x; they broadcast."""
    return list(
        np.ix_(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]),
    )


def painted(mask: np.ndarray, spacing: tuple[float, float, float], noise: float = 8.0) -> Volume:
    """The mask at 200 in surroundings of 100."""
    rng = np.random.default_rng(0)
    return Volume.from_array(
        np.where(mask, 200, 100).astype(np.float32) + rng.normal(0, noise, mask.shape).astype(np.float32), spacing
    )


def ball(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), radius: float = 9.0, side: float = 40.0, noise: float = 8.0
) -> tuple[Volume, np.ndarray]:
    """A ball in the middle of a cube: volume and truth."""
    shape = tuple(round(side / s) for s in spacing)
    z, y, x = mm(shape, spacing)  # type: ignore[arg-type]
    mask = z**2 + y**2 + x**2 <= radius**2
    return painted(mask, spacing, noise), mask


def rod() -> tuple[Volume, np.ndarray]:
    """A rod of one gray value along x, 44 mm long and 10 mm thick."""
    z, y, x = mm((24, 28, 56), (1.0, 1.0, 1.0))
    mask = (z**2 + y**2 <= 25) & (np.abs(x) <= 22)
    return painted(mask, (1.0, 1.0, 1.0), 2.0), mask


def played(session: Session, volume: Volume, truth: np.ndarray, rounds: int) -> list[np.ndarray]:
    """Masks after each round of the robot user."""
    return [np.array(turn.mask) for turn in play(RobotRounds(rounds), session, Target("", "", "", volume, truth))]


class TruthPredictor:
    """An interaction network that knows the truth."""

    def __init__(self, truth: np.ndarray, axis: int) -> None:
        self.slices = np.moveaxis(truth, axis, 0)

    def predict(
        self, view: Any, index: int, prompts: Any, previous: np.ndarray | None, nearest: Any = None
    ) -> np.ndarray:
        return self.slices[index].astype(np.float32)


def knowing_session(carrier: SlicePropagator, volume: Volume, truth: np.ndarray, axis: int = 0) -> LimnetSession:
    """A session with true prompt masks, carried by `carrier`; a negative click off the object empties a slice."""
    engine = Engine(TruthPredictor(truth, axis), carrier, Assessor(None))
    segmenter: Any = SimpleNamespace(engine=lambda: engine, settings=Settings())
    return carried_session(segmenter, volume, axis, carrier)


OPEN_SHAPE = (8, 32, 40)


def open_root(root: Path) -> Path:
    """Two validation volumes of two groups, with one and two objects."""
    image = phantom(OPEN_SHAPE)
    entries = []
    for file, labels in (("val/ts_ct_one.npz", (1,)), ("val/openms_two.npz", (1, 2))):
        label = (image > 100).astype(np.uint8)
        label[image > 230] = labels[-1]
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / file, image=image, label=label, spacing=np.array([2.0, 1.0, 1.0], np.float32))
        names = {"1": "ball", "2": "core"}
        entries.append({"file": file, "kind": "volume", "labels": {str(i): names[str(i)] for i in labels}})
    (root / "manifest.json").write_text(json.dumps({"volumes": entries}))
    return root


class WanderingPropagator(ThresholdPropagator):
    """Another threshold in every round: now the core alone, now noise as well."""

    def propagate(self, *arguments: Any, **options: Any) -> dict[int, np.ndarray]:
        self.threshold = (230.0, 4.0, 120.0)[len(self.calls) % 3]
        return super().propagate(*arguments, **options)


class ThresholdSegmenter:
    """What the scripts need of a segmenter, with `fake_engine` inside: whole rounds in a millisecond."""

    def __init__(self, name: str = "fake", settings: Settings | None = None) -> None:
        self.name, self.settings = name, settings or Settings(tau=0.8)
        self.identity = {"name": name}
        self.quality = "an assessor with numbers of its own"
        self.used: list[Settings] = []

    def engine(self, settings: Settings | None = None) -> Engine:
        self.used.append(settings or self.settings)
        engine = fake_engine(p=dict(enumerate((0.9, 0.1) * OPEN_SHAPE[0])))
        return replace(engine, propagator=WanderingPropagator())
