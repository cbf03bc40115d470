"""Workspace: one round at a time, events that a screen can follow, sessions that survive."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limnet import InteractiveSegmenter
from limnet.errors import Cancelled, InputError, OutsideError
from limnet.server.open_case import Event, Listener, OpenCase
from limnet.server.workspace import SLICES, Workspace, work_ahead
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import blob, small_segmenter

SHAPE = (14, 32, 40)
CENTRE = (7, 16, 20)


@pytest.fixture(scope="module")
def segmenter() -> InteractiveSegmenter:
    return small_segmenter()


@pytest.fixture
def workspace(segmenter: InteractiveSegmenter, tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(segmenter, tmp_path / "sessions") as workspace:
        yield workspace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "ct.npy", phantom(SHAPE))
    return tmp_path / "ct.npy"


def click(case: Any, **watch: Any) -> Any:
    return case.click(CENTRE, **watch)


class Screen:
    """Follows an open case by its events alone."""

    def __init__(self, opened: OpenCase) -> None:
        self.labels, self.kinds = opened.case.labels, list[str]()
        self.texts = list[str]()

    def __call__(self, event: Event) -> None:
        self.kinds.append(event.kind)
        self.texts.append(event.text)
        if event.box is None:
            return
        part = self.labels[tuple(slice(*side) for side in event.box)]
        if event.kind == "labels":
            part[:] = event.array
        else:
            part[event.array] = 99


@contextlib.contextmanager
def subscribed(opened: OpenCase, listener: Listener) -> Iterator[None]:
    """Tell `listener` every event while the block runs."""
    stop = opened.subscribe(listener)
    yield
    stop()


def test_a_screen_follows_every_step(workspace: Workspace, file: Path) -> None:
    opened = workspace.open(file, title="CT")
    screen = Screen(opened)
    steps: list[Any] = [
        click,
        lambda case, **watch: case.object("tumour").set_mask(blob(SHAPE)[5], index=5, **watch),
        lambda case, **watch: case.object("tumour").click((9, 3, 4), **watch),
        lambda case, **_: case.object("tumour").finish(),
        lambda case, **_: case.undo(),
        lambda case, **_: case.reset(),
        lambda case, **_: case.undo(),
        lambda case, **_: case.accept(3),
    ]
    with subscribed(opened, screen):
        for step in steps:
            opened.run(step)
            assert np.array_equal(screen.labels, opened.case.labels)
        assert screen.kinds.count("started") == screen.kinds.count("done") == len(steps)
        assert {"patch", "progress", "labels"} <= set(screen.kinds)
    count = len(screen.kinds)
    opened.run(click)
    assert len(screen.kinds) == count, "told no more"


def test_results_and_errors_come_back(workspace: Workspace, file: Path) -> None:
    opened = workspace.open(file)
    screen = Screen(opened)
    with subscribed(opened, screen):
        assert np.array_equal(opened.run(click), opened.case.mask)
        with pytest.raises(OutsideError, match="outside the volume"):
            opened.run(lambda case, **watch: case.click((99, 0, 0), **watch))
        with pytest.raises(ZeroDivisionError):
            opened.run(lambda case, **_: 1 / 0)
    assert screen.kinds.count("failed") == 2
    assert any("inside limnet" in text for text in screen.texts), "that of the saving thread may come last"
    assert opened.run(lambda case, **_: 5) == 5, "the thread lives on"


def test_cancelling_takes_back_what_was_shown(workspace: Workspace, file: Path) -> None:
    opened = workspace.open(file)
    opened.run(lambda case, **watch: case.set_mask(blob(SHAPE)[2], index=2, **watch))
    screen, before = Screen(opened), opened.case.mask
    inner = phantom(SHAPE)[7] > 230

    def stop(event: Event) -> None:
        if event.kind == "patch":
            opened.cancel()

    with subscribed(opened, screen), subscribed(opened, stop):
        job = opened.submit(lambda case, **watch: case.set_mask(inner, index=7, **watch))
        with pytest.raises(Cancelled):
            job.future.result(60)
        opened.run(lambda case, **_: None)
    assert "patch" in screen.kinds
    assert np.array_equal(opened.case.mask, before)
    assert np.array_equal(screen.labels, opened.case.labels)


def test_waiting_jobs_can_be_cancelled_and_are_bounded(workspace: Workspace, file: Path) -> None:
    opened, entered, gate = workspace.open(file), threading.Event(), threading.Event()
    opened.submit(lambda case, **_: (entered.set(), gate.wait(60)))
    assert entered.wait(60)
    waiting = [opened.submit(click) for _ in range(64)]
    with pytest.raises(InputError, match="wait for this case"):
        opened.submit(click)
    assert opened.busy
    assert opened.cancel()
    gate.set()
    for job in waiting:
        with pytest.raises(Cancelled):
            job.future.result(60)
    workspace.flush()
    assert not opened.cancel()
    assert not opened.case.rounds


def test_cases_take_turns_on_one_thread(workspace: Workspace, file: Path) -> None:
    first, second = workspace.open(file), workspace.open(file)
    assert first.case.volume is second.case.volume, "a volume is held once"
    gate, order, threads = threading.Event(), [], set()
    first.submit(lambda case, **_: gate.wait(60))
    jobs = []
    for opened, name in ((first, "a"), (first, "a"), (second, "b"), (second, "b")):

        def step(case: Any, name: str = name, **_: Any) -> None:
            order.append(name)
            threads.add(threading.get_ident())

        jobs.append(opened.submit(step))
    gate.set()
    for job in jobs:
        job.future.result(60)
    assert sorted(order) == ["a", "a", "b", "b"]
    assert order != ["a", "a", "b", "b"]
    assert len(threads) == 1


def test_every_step_is_saved_and_can_be_resumed(segmenter: InteractiveSegmenter, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    with Workspace(segmenter, folder) as workspace:
        opened = workspace.open(file)
        workspace.flush()
        assert not workspace.recent(), "nothing was done yet"
        opened.run(click)
        opened.run(lambda case, **watch: case.object("liver").click((3, 16, 20), **watch))
        workspace.flush(opened)
        labels = opened.case.labels
        [recent] = workspace.recent()
        assert (recent.title, recent.shape, recent.steps, recent.missing) == ("ct.npy", SHAPE, 2, False)
        assert recent.objects == ("object", "liver")
        assert workspace.resume(recent.name) is opened, "what is open is not opened twice"
        killed = shutil.copy(folder / recent.name, tmp_path)  # all that is left of a server that is killed now
    assert np.array_equal(segmenter.resume(killed).labels, labels)
    path = folder / recent.name
    assert path.stat().st_size < phantom(SHAPE).nbytes / 2, "no voxels where the volume has a file"
    if os.name != "nt":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Workspace(segmenter, folder) as workspace:
        again = workspace.resume(recent.name)
        assert np.array_equal(again.case.labels, labels)
        again.run(lambda case, **_: case.undo())
        workspace.flush()
        assert workspace.recent()[0].steps == 1
        workspace.close_case(again.key, forget=True)
        assert not workspace.recent()
        with pytest.raises(InputError, match="not open any more"):
            workspace.get(again.key)


def test_a_session_that_another_program_went_on_with_is_not_overwritten(
    workspace: Workspace, segmenter: InteractiveSegmenter, file: Path
) -> None:
    opened = workspace.open(file)
    screen = Screen(opened)
    opened.run(click)
    workspace.flush()
    other = segmenter.resume(opened.path)
    other.accept(3)
    other.save_session(opened.path)
    with subscribed(opened, screen):
        opened.run(lambda case, **_: case.accept(5))
        workspace.flush()
    assert "unsaved" in screen.kinds
    assert segmenter.resume(opened.path).accepted == (3,)


def test_a_disk_that_refuses_is_told_and_the_case_goes_on(workspace: Workspace, file: Path) -> None:
    opened = workspace.open(file)
    screen = Screen(opened)
    workspace.folder.parent.mkdir(exist_ok=True)
    workspace.folder.write_text("a file where the folder should be")
    with subscribed(opened, screen):
        opened.run(click)
        workspace.flush()
        assert "unsaved" in screen.kinds
        workspace.folder.unlink()
        opened.run(lambda case, **_: case.accept(3))
        workspace.flush()
    assert screen.kinds[-1] == "saved"


def test_closing_ends_everything(segmenter: InteractiveSegmenter, file: Path, tmp_path: Path) -> None:
    workspace = Workspace(lambda: segmenter, tmp_path / "sessions")
    opened, started = workspace.open(file), threading.Event()
    screen = Screen(opened)
    opened.subscribe(screen)

    def slow(case: Any, progress: Any, **_: Any) -> None:
        started.set()
        while progress(0, 1):
            pass
        raise Cancelled("as asked")

    job = opened.submit(slow)
    started.wait(60)
    workspace.close()
    assert isinstance(job.future.exception(1), Cancelled)
    assert screen.kinds[-1] == "closed"
    assert not any(thread.is_alive() for thread in workspace._threads)
    with pytest.raises(InputError, match="closed"):
        opened.submit(click)
    with pytest.raises(InputError, match="shutting down"):
        workspace.open(file)


def test_features_of_cases_not_in_use_are_let_go(tmp_path: Path, file: Path) -> None:
    small = small_segmenter(settings={"cache_bytes": 1_000_000})
    with Workspace(small, tmp_path / "s") as workspace:
        first, second = workspace.open(file), workspace.open(file)
        first.run(click)
        held = first.case._engine.held_bytes
        assert held > 0
        second.run(click)
        total = sum(opened.case._engine.held_bytes for opened in (first, second))
        assert total <= 1_000_000
        assert second.case._engine.held_bytes > 0


def test_a_case_of_a_notebook_is_shown_as_it_is(workspace: Workspace, segmenter: InteractiveSegmenter) -> None:
    case = segmenter.open(phantom(SHAPE))
    opened = workspace.adopt(case)
    assert workspace.adopt(case) is opened
    opened.run(click)
    assert case.rounds
    assert not workspace.recent()


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
