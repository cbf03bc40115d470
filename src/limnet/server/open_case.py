"""An open case of a workspace: its queue of steps, who listens to it, and what they are told."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.case.live import Extent
from limnet.case.state import Book

if TYPE_CHECKING:
    from limnet.case.case import Case
    from limnet.server.workspace import Workspace

_log = logging.getLogger(__name__)

Kind = Literal["started", "progress", "patch", "labels", "done", "failed", "cancelled", "saved", "unsaved", "closed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to an open case, or to job number `job` (from 1) of it.

    The events of one job come in this order: started; patch and progress, any number of them; labels, any number; and
    one of done, failed and cancelled. saved and unsaved come at any time, closed last.

    Attributes:
        kind: "started": a job began. "progress": `done` of `total` slices, 0 before that is known. "patch": while a
            round
            runs, the mask of `object` in `box` is `array` (bool), to be shown until labels come. "labels": the labels
            (uint16) of `box` are `array`, exactly; whatever a cancelled or failed round had shown is taken back by
                them.
            "done" with the `result` of the step, "failed" with the `error`, "cancelled": the job is over. "saved": the
            session file holds everything. "unsaved": it does not. "closed": the case was closed.
        box: ((first, end), (first, end), (first, end)) along the volume's axes; `array` has its shape, contiguous.
        text: Why it failed or is not saved, in words for a person.
    """

    kind: Kind
    job: int = 0
    done: int = 0
    total: int = 0
    object: str = ""
    box: Extent | None = None
    array: NDArray[np.bool_] | NDArray[np.uint16] | None = None
    text: str = ""
    error: BaseException | None = None
    result: Any = None


Listener = Callable[[Event], None]
"""Called in the thread where the event happens; has to return soon and must not raise."""

Step = Callable[..., Any]
"""Called as step(case, progress=..., on_update=...) in the computing thread; see `OpenCase.submit`."""


@dataclass(eq=False)
class Job:
    """A step that waits, runs or is over, about one object.

    Its `future` holds its result: `Cancelled` if it was cancelled, the step's own error if it failed.
    """

    number: int
    step: Step
    object: str
    future: Future[Any] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Stop it as soon as it looks up; a step that is over stays as it is."""
        self.stop.set()


class OpenCase:
    """A case in a workspace. Get one by `Workspace.open` or `Workspace.resume`.

    Attributes:
        key: Names it in addresses; cannot be guessed and says nothing of the patient.
        case: The case. Reading from it (masks, labels, quality) is safe from any thread at any time; whatever changes
            it goes through `submit`.
        title: Name of its volume, for a person.
        path: Its session file, or None if it is not kept.
        shared: Whether somebody else holds the case, too (`Workspace.adopt`).
    """

    def __init__(
        self, workspace: Workspace, key: str, case: Case, title: str, path: Path | None, shared: bool = False
    ) -> None:
        self.workspace, self.key, self.case, self.title, self.path = workspace, key, case, title, path
        self.shared = shared
        self.used = time.monotonic()
        self.waiting: deque[Job] = deque()
        self.running: Job | None = None
        self.closed = False
        self.saved_book: Book = case._book
        self._count = 0
        self._listeners: list[Listener] = []

    def __repr__(self) -> str:
        return f"<OpenCase {self.title!r}: {len(self.waiting) + (self.running is not None)} jobs>"

    def submit(self, step: Step, object: str = "object") -> Job:
        """Queue a step about an object; it runs in the computing thread after those before it.

        A step is called as `step(case, progress=..., on_update=...)`; hand both on to the methods that make rounds, so
        that screens see the round and it can be cancelled: `lambda case, **watch: case.click(point, **watch)`. Steps
        that make none ignore them: `lambda case, **_: case.undo()`. `job.future.result()` waits for what the step
        returns. InputError if the case was closed, or too many jobs wait.
        """
        return self.workspace._submit(self, step, object)

    def run(self, step: Step, object: str = "object") -> Any:
        """`submit` and wait for the result; raises what the step raised."""
        return self.submit(step, object).future.result()

    def cancel(self) -> bool:
        """Cancel the running job and all that wait; returns whether there were any."""
        return self.workspace._cancel(self)

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self.running is not None or bool(self.waiting)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell every event to `listener`, until the function returned is called.

        The listener is called in the computing thread (or that of saves): it has to return at once, as
        `loop.call_soon_threadsafe(queue.put_nowait, event)` does.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    def tell(self, event: Event) -> None:
        """Tell all listeners; one that fails is dropped."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("a listener of %s failed and is told no more", self.key)
                with contextlib.suppress(ValueError):
                    self._listeners.remove(listener)

    def close(self) -> None:
        """Cancel what runs, save, and let go of the case; see `Workspace.close_case`."""
        self.workspace.close_case(self.key)
