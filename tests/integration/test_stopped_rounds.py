"""Rounds that are interrupted, cancelled or disturbed leave the case as it was; progress runs to its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.errors import Cancelled, ConflictError
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import CENTRE, SHAPE, blob, seen


def _interrupt(done: int, total: int) -> None:
    if done >= 3:
        raise KeyboardInterrupt


def _fail(done: int, total: int) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("progress", "error"),
    [
        (_interrupt, KeyboardInterrupt),
        (_fail, ZeroDivisionError),
        (lambda done, total: False, Cancelled),
        (lambda done, total: np.bool_(False), Cancelled),
    ],
)
def test_a_round_that_is_stopped_changes_nothing(
    segmenter: InteractiveSegmenter, progress: Callable[[int, int], Any], error: type[BaseException]
) -> None:
    case = segmenter.open(phantom(SHAPE))
    case.click(CENTRE)
    case.click((2, 16, 20), propagate=False)
    before = seen(case)
    rounds: list[Callable[[], Any]] = [
        lambda: case.click((6, 16, 20), progress=progress),
        lambda: case.click((6, 16, 20), scope="interval", progress=progress),
        lambda: case.set_mask(blob()[6], index=6, progress=progress),
        lambda: case.propagate(progress=progress),
    ]
    for go in rounds:
        with pytest.raises(error):
            go()
        assert seen(case) == before
    calm = segmenter.open(phantom(SHAPE))
    calm.click(CENTRE)
    calm.click((2, 16, 20), propagate=False)
    assert np.array_equal(case.propagate(), calm.propagate()), "what was stopped leaves no traces"


@pytest.mark.parametrize("scope", ["volume", "interval"])
def test_progress_ends_at_its_total(segmenter: InteractiveSegmenter, scope: str) -> None:
    case = segmenter.open(phantom(SHAPE), settings={"scope": scope})
    told: list[tuple[int, int]] = []
    note = lambda done, total: told.append((done, total))  # noqa: E731
    steps: list[Callable[[], Any]] = [
        lambda: case.set_mask(blob()[4], index=4, progress=note),
        lambda: [case.click((z, 16, 20), propagate=False) for z in (1, 3, 6)] and case.propagate(progress=note),
        lambda: case.set_mask(np.ones(SHAPE, bool), progress=note),
    ]
    for step in steps:
        told.clear()
        step()
        assert told[-1][0] == told[-1][1] > 0
        assert len({total for _, total in told}) == 1
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_changes_from_the_progress_callback_are_not_overwritten(segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))

    def meddle(done: int, total: int) -> None:
        if done == 3:
            case.click((1, 5, 5), propagate=False)

    with pytest.raises(ConflictError, match="changed while"):
        case.click(CENTRE, progress=meddle)
    assert case.prompted == (1,)
    assert case.mask[1, 5, 5]
    liver = case.object("liver")
    liver.click(CENTRE, progress=lambda done, total: case.click((2, 5, 5), propagate=False) if done == 3 else None)
    assert liver.prompted == (4,), "rounds of other objects do not disturb"
    assert case.prompted == (1, 2)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c(segmenter: InteractiveSegmenter, tmp_path: Path) -> None:
    """The signal comes in the middle of computing, not where progress is told."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread hears signals")
    truth = phantom((40, 32, 40)) > 100
    case = segmenter.open(phantom(truth.shape), session=tmp_path / "x.limnet")
    case.set_mask(truth[20], index=20, propagate=False)
    book, started, usual = case._book, threading.Event(), signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        started.wait()
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            case.propagate(progress=lambda done, total: started.set())
    finally:
        pressing.join()
        signal.signal(signal.SIGINT, usual)
    assert case._book is book
    assert np.array_equal(segmenter.resume(tmp_path / "x.limnet").mask, case.mask)
    assert np.array_equal(case.propagate(), segmenter.resume(tmp_path / "x.limnet").mask)
