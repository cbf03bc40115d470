"""The robot at work on a case, one click a round, watched from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.case import Case
from limnet.engine import Engine
from limnet.metrics.overlap import dice
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings
from limnet.simulation.clicks import RobotClick, RobotUser
from limnet.volume import Volume

Mask = NDArray[np.bool_]
Chooser = Callable[["Mask | None", int], "RobotClick | None"]


class Turn(NamedTuple):
    """One round.

    Attributes:
        number: from 1.
        click: what the robot marked; None when there was nothing left to correct.
        mask: bool (D, H, W) after it.
        dice: of the whole volume.
        seconds: the round took, without the robot; 0 without a click.
    """

    number: int
    click: RobotClick | None
    mask: Mask
    dice: float
    seconds: float


def slice_dice(mask: Mask, truth: Mask) -> NDArray[np.float64]:
    """(D,) Dice of each slice along axis 0; NaN where mask and truth are empty."""
    axes = tuple(range(1, mask.ndim))
    both, total = (mask & truth).sum(axes), mask.sum(axes) + truth.sum(axes)
    return np.where(total > 0, 2.0 * both / np.maximum(total, 1), np.nan)


def open_case(
    segmenter: InteractiveSegmenter,
    volume: Volume,
    settings: Settings | None = None,
    window: Sequence[float] | None = None,
    change: Callable[[Engine], Engine] | None = None,
) -> Case:
    """A case as `segmenter.open` makes it, with an engine that may be changed.

    Args:
        segmenter: the model.
        volume: slices along axis 0.
        settings: instead of the model's own.
        window: intensity window in raw units; the product's choice by default.
        change: gets the engine and returns the one to use (a watched or replaced part).
    """
    chosen = segmenter.settings if settings is None else settings
    engine = segmenter.engine(chosen)
    return Case(change(engine) if change else engine, volume, settings=chosen, window=window)


def with_settings(segmenter: InteractiveSegmenter, **changes: Any) -> Settings:
    """The model's settings with some changed."""
    return replace(segmenter.settings, **changes)


def play(
    case: Case, truth: Mask, rounds: int, robot: RobotUser | None = None, choose: Chooser | None = None
) -> Iterator[Turn]:
    """Yield every round; once there is nothing to correct the mask stays as it is.

    Args:
        case: slices along axis 0.
        truth: bool (D, H, W), not empty.
        rounds: how many.
        robot: the robot user; the customary one by default.
        choose: gives the click from (mask so far or None, number of the round) instead of the robot.
    """
    user = robot or RobotUser(case.volume.spacing)
    mask: Mask | None = None
    for number in range(1, rounds + 1):
        click = choose(mask, number) if choose else user.next_click(truth, mask, number)
        seconds = 0.0
        if click is not None:
            start = time.perf_counter()
            mask = case.click(click.zyx, positive=click.positive)
            seconds = time.perf_counter() - start
        if mask is None:
            mask = np.zeros(truth.shape, dtype=bool)
        yield Turn(number, click, mask, dice(mask, truth), seconds)


def scores(turns: Sequence[Turn]) -> dict[str, list[float]]:
    """Dice after every round and seconds of every round that had a click, rounded for a row."""
    return {
        "dice": [round(t.dice, 4) for t in turns],
        "seconds": [round(t.seconds, 3) for t in turns if t.click is not None],
    }
