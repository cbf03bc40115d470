"""Volumes for the baselines of the benchmarks: bodies of one gray value in another, with noise; all sizes in mm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.baselines.carried import carried_session
from benchmarks.core.method import LimnetSession, Session
from benchmarks.core.rounds import RobotRounds, Target, play
from limnet.case.state import Engine, SlicePropagator
from limnet.image.volume import Volume
from limnet.quality.assessor import Assessor
from limnet.settings import Settings


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
