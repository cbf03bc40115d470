"""Workspace: many cases open at once, one thread that computes, and session files that are always up to date.

Servers and notebooks work on cases through it: rounds never run on their own threads, never two at once (they would
share the processor and each take more than twice as long), and nothing is lost when a tab, a server or a machine dies.
While nobody waits it computes what the next click will need, to the bit as the click itself would: masks do not depend
on how much was done ahead.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.case.case import Case
from limnet.case.live import changed_labels
from limnet.case.session import read_summary
from limnet.case.state import Book
from limnet.environment import user_folder
from limnet.errors import Cancelled, InputError, LimnetError, SaveError
from limnet.image.io.reading import place_of
from limnet.image.slices import is_empty, unpack
from limnet.image.volume import Volume
from limnet.interaction.predictor import SlicePredictor
from limnet.interaction.window import mask_box
from limnet.prompts import Prompt2D
from limnet.server.open_case import Event, Job, OpenCase, Step

if TYPE_CHECKING:
    from limnet.case.case import Case
    from limnet.segmenter import InteractiveSegmenter

_log = logging.getLogger(__name__)
_QUEUE = 64  # jobs that may wait for one case: more is a client gone wild
SLICES = 8  # after a step: 7 MB of features with limnet-tiny, and about an eighth of a second


def work_ahead(case: Case) -> Iterator[None]:
    """A piece of work at every step of the iterator, each as short as the look at one slice.

    Before the first prompt, a click in the middle is answered and forgotten: it reads the volume's statistics and lets
    the kernels get ready. After a step it is the windows of the slices of its object nearest to it, as the next click
    on the object will look at them.
    """
    predictor, book = case._engine.predictor, case._book
    if not isinstance(predictor, SlicePredictor):
        return
    if not book.done:
        rows, columns = case.view.shape
        centre = Prompt2D("click", True, ((rows // 2, columns // 2),))
        predictor.predict(case.view, len(case.view) // 2, [centre], None)
        yield
        return
    state = book.histories[book.done[-1]].current
    if state.finished or not state.rounds:
        return
    view = case.view if state.window is None else case.view.with_window(state.window)
    filled = [i for i, stored in enumerate(state.slices) if not is_empty(stored)]
    for i in sorted(filled, key=lambda i: abs(i - state.rounds[-1].index))[:SLICES]:
        predictor.prepare(view, i, mask_box(unpack(state.slices[i], view.shape) > 0.5))
        yield


class Workspace:
    """Cases open at once, computed one round at a time and saved after every step. A context manager.

    Args:
        segmenter: The model, or a function that loads it (called once, at the first case).
        folder: Where session files are kept; None for the user's own folder (`user_folder`).
    """

    def __init__(
        self,
        segmenter: InteractiveSegmenter | Callable[[], InteractiveSegmenter],
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._load = segmenter
        self._segmenter: InteractiveSegmenter | None = None if callable(segmenter) else segmenter
        self._loading, self._resuming = threading.Lock(), threading.Lock()
        self.folder = user_folder("sessions") if folder is None else Path(folder).absolute()
        self._cases: dict[str, OpenCase] = {}
        self._volumes: weakref.WeakValueDictionary[tuple[Any, ...], Volume] = weakref.WeakValueDictionary()
        self._state = threading.Condition()
        self._turns: deque[OpenCase] = deque()  # cases with waiting jobs, next one first
        self._ahead: Iterator[None] | None = None  # what is done as long as nobody waits
        self._unsaved: dict[str, OpenCase] = {}
        self._saving: OpenCase | None = None
        self._closing = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # cases

    @property
    def segmenter(self) -> InteractiveSegmenter:
        """The model; loaded at first use."""
        with self._loading:
            if self._segmenter is None:
                self._segmenter = self._load()  # type: ignore[operator]
            return self._segmenter

    def use(self, segmenter: InteractiveSegmenter) -> None:
        """Open cases with another model from now on; those that are open keep theirs."""
        with self._loading:
            self._segmenter = segmenter

    @property
    def cases(self) -> dict[str, OpenCase]:
        """Open cases by key."""
        with self._state:
            return dict(self._cases)

    def get(self, key: str) -> OpenCase:
        """The open case of that key; InputError if there is none."""
        found = self._cases.get(key)
        if found is None:
            raise InputError("this case is not open any more: open its volume, or resume it from the recent sessions")
        return found

    def volume(self, path: str | os.PathLike[str], index: int | None = None, series: str | int | None = None) -> Volume:
        """A volume from a file or folder, shared with every case that has it open; see `Volume.read` for errors."""
        place = Path(path).resolve()
        try:
            about = place.stat()
            key = (place, index, series, about.st_mtime_ns, about.st_size)
        except OSError:  # reading it will say why
            return Volume.read(path, index=index, series=series)
        found = self._volumes.get(key)
        if found is None:
            found = self._volumes[key] = Volume.read(path, index=index, series=series)
        return found

    def open(self, volume: Any, *, title: str | None = None, keep: bool = True, **options: Any) -> OpenCase:
        """Open a case on a volume. Blocks while the file is read (and the model is loaded).

        Args:
            volume: A path, a `Volume` or an array; see `InteractiveSegmenter.open`.
            title: Name for a person; by default that of the file.
            keep: Whether its session is kept in a file. A volume without a file of its own is stored in it.
            **options: axis, spacing, window, settings of `InteractiveSegmenter.open`.
        """
        if isinstance(volume, (str, os.PathLike)):
            volume = self.volume(volume)
        case = self.segmenter.open(volume, **options)
        return self._add(case, self._new_file() if keep else None, title)

    def resume(self, path: str | os.PathLike[str]) -> OpenCase:
        """Go on with a session file (a name alone means one of `folder`); if it is open already, with that case.

        A file elsewhere stays as it is: what follows is kept in a new one in `folder`.
        """
        place = self.folder / path if Path(path).name == os.fspath(path) else Path(path).absolute()
        with self._resuming:
            for opened in self.cases.values():
                if opened.path == place:
                    return opened
            case = self.segmenter.resume(place)
            case._adopt(case._book, None)  # kept up to date from here
            return self._add(case, place if place.parent == self.folder else self._new_file())

    def adopt(self, case: Case) -> OpenCase:
        """Show a case that somebody else holds (a notebook): not kept in a file here, changes of both sides are seen.

        The same case gives the same open case.
        """
        for opened in self.cases.values():
            if opened.case is case:
                return opened
        return self._add(case, None, shared=True)

    def recent(self, limit: int = 50) -> list[Recent]:
        """Session files that can be resumed, newest first."""
        return list_recent(self.folder, limit)

    def close_case(self, key: str, *, forget: bool = False) -> None:
        """Cancel its jobs, save and let go of a case; nothing happens if there is none.

        With `forget` its session file is deleted as well.
        """
        with self._state:
            opened = self._cases.pop(key, None)
        if opened is None:
            return
        opened.closed = True
        opened.cancel()
        self.flush(opened)
        if forget and opened.path is not None:
            opened.path.unlink(missing_ok=True)
        opened.tell(Event("closed"))
        opened.case._engine.forget()

    def flush(self, opened: OpenCase | None = None, timeout: float = 60.0) -> None:
        """Wait until everything, or one case, is computed and saved, at most `timeout` seconds."""
        end = time.monotonic() + timeout

        def pending() -> bool:
            mine = [opened] if opened is not None else [*self._cases.values(), *self._unsaved.values()]
            return any(c.busy or c.key in self._unsaved or self._saving is c for c in mine)

        with self._state:
            while pending() and (left := end - time.monotonic()) > 0:
                self._state.wait(left)

    def close(self) -> None:
        """Cancel all jobs, save every case and end the threads. Nothing can be opened any more."""
        with self._state:
            self._closing = True
        for key in list(self.cases):
            self.close_case(key)
        with self._state:
            self._state.notify_all()
        for thread in self._threads:
            thread.join(60.0)

    # the computing thread

    def _new_file(self) -> Path:
        return self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.limnet"

    def _add(self, case: Case, path: Path | None, title: str | None = None, shared: bool = False) -> OpenCase:
        source = case.volume.source
        title = title or ("volume" if source is None else source.name)
        opened = OpenCase(self, secrets.token_urlsafe(12), case, title, path, shared)
        with self._state:
            if self._closing:
                raise InputError("the server is shutting down: start it again")
            self._cases[opened.key] = opened
            self._ahead = self._work_ahead(opened)
            self._state.notify_all()
            if not self._threads:
                for name, work in (("limnet-rounds", self._compute), ("limnet-saves", self._save)):
                    thread = threading.Thread(target=work, name=name, daemon=True)
                    self._threads.append(thread)
                    thread.start()
        return opened

    def _submit(self, opened: OpenCase, step: Step, name: str) -> Job:
        with self._state:
            if opened.closed or self._closing:
                raise InputError("this case was closed: open it again from the recent sessions")
            if len(opened.waiting) >= _QUEUE:
                raise InputError(f"{_QUEUE} steps wait for this case already: let them finish, or cancel")
            opened._count += 1
            job = Job(opened._count, step, name)
            opened.waiting.append(job)
            opened.used = time.monotonic()
            if opened not in self._turns and opened.running is None:
                self._turns.append(opened)
            self._state.notify_all()
        return job

    def _cancel(self, opened: OpenCase) -> bool:
        with self._state:
            dropped = list(opened.waiting)
            opened.waiting.clear()
            if opened in self._turns:
                self._turns.remove(opened)
            running = opened.running
            if running is not None:
                running.cancel()
            self._state.notify_all()
        for job in dropped:
            _finish(job, Cancelled("the step was cancelled before it began"))
            opened.tell(Event("cancelled", job.number))
        return bool(dropped) or running is not None

    def _compute(self) -> None:
        while (turn := self._turn()) is not None:
            opened, job = turn
            try:
                self._run(opened, job)
            finally:
                with self._state:
                    opened.running = None
                    opened.used = time.monotonic()
                    if opened.waiting:
                        self._turns.append(opened)
                    self._ahead = self._work_ahead(opened)
                    self._state.notify_all()

    def _turn(self) -> tuple[OpenCase, Job] | None:
        """The next job, None when all is closed; works ahead, one piece at a time, as long as there is none."""
        while True:
            with self._state:
                while not (self._turns or self._closing or self._ahead):
                    self._state.wait()
                if self._turns:
                    opened = self._turns.popleft()
                    opened.running = job = opened.waiting.popleft()
                    return opened, job
                if self._closing:
                    return None
                pieces = self._ahead
            if pieces is not None and next(pieces, True):
                with self._state:
                    self._ahead = None if self._ahead is pieces else self._ahead

    def _work_ahead(self, opened: OpenCase) -> Iterator[None]:
        if opened.shared:  # somebody else may compute on it at this moment
            return
        try:
            for _ in work_ahead(opened.case):
                yield
                if opened.closed:
                    return
            self._trim(opened)
        except Exception:  # nobody asked for it, and it must not end the thread that all cases share
            _log.exception("work ahead failed")

    def _run(self, opened: OpenCase, job: Job) -> None:
        case, shown = opened.case, set[int]()
        before = case._book
        opened.tell(Event("started", job.number, object=job.object))

        def progress(done: int, total: int) -> bool:
            opened.tell(Event("progress", job.number, done, total, job.object))
            return not job.stop.is_set()

        def on_update(box: Any, mask: Any, done: int, total: int) -> bool:
            shown.update(range(*box[case.axis]))
            opened.tell(Event("patch", job.number, done, total, job.object, box, mask))
            return not job.stop.is_set()

        result, error = None, None
        try:
            if job.stop.is_set():
                raise Cancelled("the step was cancelled before it began")
            result = job.step(case, progress=progress, on_update=on_update)
        except BaseException as raised:  # a broken step must not end the thread that all cases share
            error = raised
        after = case._book
        self._changed(opened, after)
        try:
            # what the screen shows of a round that was dropped is taken back
            again = shown if error is not None else set()
            for box, labels in changed_labels(before, after, case.view.shape, case.axis, again):
                opened.tell(Event("labels", job.number, box=box, array=labels))
        except Exception as raised:
            error = error or raised
        self._trim(opened)
        if error is None:
            opened.tell(Event("done", job.number, object=job.object, result=result))
        elif isinstance(error, Cancelled):
            opened.tell(Event("cancelled", job.number, object=job.object, text=str(error), error=error))
        else:
            if not isinstance(error, LimnetError):
                _log.error("a step failed", exc_info=error)
            opened.tell(Event("failed", job.number, object=job.object, text=in_words(error), error=error))
        _finish(job, error, result)

    def _trim(self, latest: OpenCase) -> None:
        """Keep image features of all cases together under the limit of one, those used last."""
        limit = self.segmenter.settings.cache_bytes
        total = 0
        for opened in sorted(self.cases.values(), key=lambda c: (c is latest, c.used), reverse=True):
            total += opened.case._engine.held_bytes
            if total > limit and opened is not latest:
                total -= opened.case._engine.held_bytes
                opened.case._engine.forget()

    # the saving thread

    def _changed(self, opened: OpenCase, book: Book) -> None:
        if opened.path is None or book is opened.saved_book:
            return
        with self._state:
            self._unsaved[opened.key] = opened
            self._state.notify_all()

    def _save(self) -> None:
        while True:
            with self._state:
                while not self._unsaved:
                    # the computing thread may still leave something to save
                    if self._closing and not self._threads[0].is_alive():
                        return
                    self._state.wait(1.0 if self._closing else None)
                _, opened = self._unsaved.popitem()
                self._saving = opened
            try:
                self._write(opened)
            finally:
                with self._state:
                    self._saving = None
                    self._state.notify_all()

    def _write(self, opened: OpenCase) -> None:
        book, path = opened.case._book, opened.path
        if path is None:
            return
        try:
            private_folder(path.parent)
            opened.case.save_session(path)
            with contextlib.suppress(OSError):
                path.chmod(0o600)
            opened.saved_book = book
            opened.tell(Event("saved"))
        except Exception as error:  # the thread serves all cases
            if isinstance(error, (LimnetError, OSError)):
                text = str(error)
            else:
                _log.exception("session %s could not be saved", path.name)
                text = f"the session could not be saved ({type(error).__name__}: {error}); its steps are kept in memory"
            opened.tell(Event("unsaved", text=text, error=error))


def _finish(job: Job, error: BaseException | None, result: Any = None) -> None:
    with contextlib.suppress(Exception):  # whoever waited may have given up
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


def in_words(error: BaseException) -> str:
    """What a person is told of an error of a step."""
    if isinstance(error, LimnetError):
        return str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "there is not enough memory for this step: close other cases or programs, or crop the volume"
    return (
        f"something went wrong inside limnet ({type(error).__name__}: {error}). The case is as it was before the step"
    )


@dataclass(frozen=True)
class Recent:
    """A session file by its name, what `Workspace.resume` takes.

    `title` is the name of its volume, whose file may be `missing`; `steps` are done so far, the last one was made at
    `changed`, in seconds since 1970.
    """

    name: str
    title: str
    missing: bool
    shape: tuple[int, ...]
    objects: tuple[str, ...]
    steps: int
    changed: float


def private_folder(folder: Path) -> Path:
    """The folder, made if needed, for its owner's eyes only."""
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            folder.chmod(0o700)
    except OSError as error:
        raise SaveError(f"the folder of sessions {folder} cannot be made ({error}): set LIMNET_SESSIONS") from error
    return folder


def list_recent(folder: Path, limit: int) -> list[Recent]:
    """Readable session files of a folder, newest first; others are left out."""
    files: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for path in folder.glob("*.limnet"):
            with contextlib.suppress(OSError):
                files.append((path.stat().st_mtime, path))
    found: list[Recent] = []
    for changed, path in sorted(files, reverse=True):
        summary = read_summary(path)
        if summary is None:
            continue
        volume = None if summary.volume is None else place_of(summary.volume, folder)
        missing = volume is not None and not volume.exists()
        title = "volume" if volume is None else volume.name
        found.append(Recent(path.name, title, missing, summary.shape, summary.objects, summary.steps, changed))
        if len(found) >= limit:
            break
    return found
