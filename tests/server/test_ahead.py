"""Work ahead: features are there before the click, masks are those of a case that nobody prepared."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from limnet.server.workspace import SLICES, Workspace, work_ahead
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import small_segmenter

SHAPE = (14, 32, 40)
CENTRE = (7, 16, 20)


def test_the_next_click_finds_its_features_and_its_mask_is_the_same() -> None:
    segmenter = small_segmenter()
    prepared, plain = (segmenter.open(phantom(SHAPE)) for _ in range(2))
    for case in (prepared, plain):
        case.set_mask(phantom(SHAPE) > 230, propagate=False)
    cache = prepared._engine.cache
    assert cache is not None
    assert 1 <= len(list(work_ahead(prepared))) <= SLICES
    misses = cache.misses
    assert list(work_ahead(prepared))
    assert cache.misses == misses, "done once"
    places = np.argwhere(prepared.mask)
    z, y, x = places[np.abs(places[:, 0] - prepared._state.rounds[-1].index).argmin()].tolist()
    for case in (prepared, plain):
        case.click((z, y, x), positive=False, propagate=False)
    assert cache.misses - misses < plain._engine.cache.misses  # type: ignore[union-attr]
    assert np.array_equal(prepared.probability, plain.probability)


def test_a_step_does_not_wait_for_work_ahead(tmp_path: Path, monkeypatch) -> None:
    pieces, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def endless(case):
        while True:
            pieces.release()
            go_on.acquire()
            yield

    monkeypatch.setattr("limnet.server.workspace.work_ahead", endless)
    with Workspace(small_segmenter(), tmp_path) as workspace:
        opened = workspace.open(phantom(SHAPE))
        assert pieces.acquire(timeout=60), "it begins by itself"
        job = opened.submit(lambda case, **_: 5)
        go_on.release()
        assert job.future.result(60) == 5
        assert pieces.acquire(timeout=60), "and goes on after the step"
        opened.close()
        go_on.release()
