"""A session that remembers its last mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.protocol import BoxSession, Session, StartSession, Voxel


class Watched:
    """Passes clicks on and keeps the mask that came back as `mask`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.mask: NDArray[np.bool_] | None = None

    def click(self, zyx: Voxel, positive: bool) -> NDArray[np.bool_]:
        """See `Session.click`."""
        self.mask = self.session.click(zyx, positive)
        return self.mask


class WatchedStart(Watched):
    """The same for sessions that take a mask to start from."""

    session: StartSession

    def start_from(self, mask: NDArray[np.bool_]) -> None:
        """See `StartSession.start_from`."""
        self.mask = mask
        self.session.start_from(mask)


class WatchedBox(Watched):
    """The same for sessions that take boxes."""

    session: BoxSession

    def box(self, lo: Voxel, hi: Voxel) -> NDArray[np.bool_]:
        """See `BoxSession.box`."""
        self.mask = self.session.box(lo, hi)
        return self.mask


class WatchedBoth(WatchedBox, WatchedStart):
    """The same for sessions that take either."""

    session: Any


def watched(session: Session) -> Watched:
    """The session, watched; it takes boxes, or a mask to start from, if the session does."""
    if isinstance(session, StartSession):
        return WatchedBoth(session) if isinstance(session, BoxSession) else WatchedStart(session)
    return WatchedBox(session) if isinstance(session, BoxSession) else Watched(session)
