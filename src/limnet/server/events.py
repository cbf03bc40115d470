"""What a screen is told about an open case: rounds as they run, labels as they change, whether the session is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.case.live import Extent

Kind = Literal["started", "progress", "patch", "labels", "done", "failed", "cancelled", "saved", "unsaved", "closed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to an open case.

    The events of one job come in this order: started; patch and progress, any number of them; labels, any number; and
    one of done, failed and cancelled. saved and unsaved come at any time, closed last.

    Attributes:
        kind: "started": a job began. "progress": `done` of `total` slices. "patch": while a round runs, the mask of
            `object` in `box` is `array` (bool), to be shown until labels come. "labels": the labels (uint16) of `box`
            are `array`, exactly; whatever a cancelled or failed round had shown is taken back by them. "done",
            "failed", "cancelled": the job is over; `text` says why it failed, in words for a person. "saved": the
            session file holds everything. "unsaved": it does not, `text` says why. "closed": the case was closed.
        job: Number of the job, from 1; 0 for saved, unsaved and closed.
        done: Slices computed so far.
        total: Slices to compute; 0 before that is known.
        object: Name of the object.
        box: ((first, end), (first, end), (first, end)) along the volume's axes.
        array: Of the shape of `box`, contiguous.
        text: For a person.
        error: What was raised, of "failed".
        result: What the step returned, of "done".
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
