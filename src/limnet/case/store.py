"""What the objects of a case share: volume, networks, and the states of all objects with their steps."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.case.engine import Engine, RoundContext
from limnet.case.history import Book, ObjectState
from limnet.case.label_map import stored_levels
from limnet.case.session_volume import describe, packed_voxels
from limnet.errors import ConflictError, InputError, InputTypeError, SaveError
from limnet.image.io.segments import Maker
from limnet.image.slice_view import SliceView
from limnet.image.slices import dense_mask, is_empty
from limnet.image.volume import Volume
from limnet.settings import Settings


class Record(NamedTuple):
    """What a session file says about a case, besides its public attributes.

    Attributes:
        book: Histories of all objects.
        about: Description of the volume.
        voxels: Packed voxels of a volume that has no file.
        window: Window the user chose, or None.
        identity: What the networks are.
    """

    book: Book
    about: dict[str, Any]
    voxels: bytes | None
    window: tuple[float, float] | None
    identity: dict[str, Any] | None


class CaseStore(ABC):
    """States of all objects of a case; every change goes through `_push` or `_step`, with its autosave.

    Args:
        engine: The networks at work for this case.
        volume: The volume.
        axis: Axis the slices lie along.
        window: (lo, hi) in raw units that maps to 0..1; None chooses per object.
        settings: How rounds work.
    """

    def __init__(
        self, engine: Engine, volume: Volume, axis: int, window: Sequence[float] | None, settings: Settings
    ) -> None:
        self._engine = engine
        self._volume = volume
        self._view = SliceView(volume, axis, window)
        self._fixed_window = window is not None
        self._settings = settings
        self._book = Book()
        self._blank = ObjectState.empty(len(self._view))
        self._taken_cache: tuple[tuple[ObjectState, ...], NDArray[np.bool_] | None] = ((), None)
        self._about: tuple[dict[str, Any], bytes | None] | None = None
        self._lock = threading.RLock()  # around every change of `_book`, together with its autosave
        self._marks: dict[Path, tuple[str, ...]] = {}  # what this case last read or wrote at a place; see session.py
        self._autosave: Path | None = None

    @abstractmethod
    def save_session(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write everything needed to go on later."""

    @property
    def volume(self) -> Volume:
        """The volume."""
        return self._volume

    @property
    def view(self) -> SliceView:
        """The volume seen along the case's axis."""
        return self._view

    @property
    def axis(self) -> int:
        """Axis of the volume the slices lie along."""
        return self._view.axis

    @property
    def settings(self) -> Settings:
        """Settings of this case."""
        return self._settings

    @property
    def session(self) -> Path | None:
        """File the session is kept in after every step, or None."""
        return self._autosave

    def _record(self) -> Record:
        if self._about is None:  # the volume does not change: described, and packed if need be, once
            voxels = packed_voxels(self._volume) if self._volume.source is None else None
            self._about = describe(self._volume), voxels
        about, voxels = self._about
        if voxels is not None and self._autosave is None and not self._marks:
            self._about = None  # the first save may be the only one: do not hold the packed voxels in memory
        window = self._view.window if self._fixed_window else None
        return Record(self._book, about, voxels, window, self._engine.identity)

    def _adopt(self, book: Book, autosave: Path | None) -> None:
        self._book, self._autosave = book, autosave

    def _existing(self, name: str) -> str:
        """Key of the object of that name."""
        check_name(name)
        key = self._book.key_of(name)
        if key is None:
            there = ", ".join(map(repr, self._book.names.values())) or "none yet"
            raise InputError(f"there is no object {name!r}: the objects are {there}")
        return key

    def _state_of(self, key: str) -> ObjectState:
        history = self._book.histories.get(key)
        return self._blank if history is None else history.current

    def _past(self, key: str) -> tuple[ObjectState, ...]:
        """States of an object up to the present one, oldest first."""
        history = self._book.histories.get(key)
        return () if history is None else history.states[: history.position + 1]

    def _push(self, key: str, state: ObjectState, before: ObjectState) -> None:
        """Make `state` the present one, if that still is `before`, which it was made from."""
        with self._lock:
            if self._state_of(key) is not before:
                raise ConflictError(
                    f"object {self._book.names.get(key, key)!r} was changed while this step was made (by the "
                    "progress callback or another thread): that change holds, this step was dropped. Make one at a time"
                )
            book = self._book
            if key not in book.histories:
                book = book.with_object(key, self._blank)
            self._commit(book.push(key, state))

    def _step(self, change: Callable[[Book], Book]) -> None:
        with self._lock:
            self._commit(change(self._book))

    def _commit(self, book: Book) -> None:
        before, self._book = self._book, book  # one assignment: an interrupt comes before or after it, never in between
        if self._autosave is None:
            return
        try:
            self.save_session(self._autosave)
        except (SaveError, ConflictError, InputError) as error:
            kept = type(error)(f"this step is done and kept in memory, but the session file is behind: {error}")
            if isinstance(error, SaveError) and isinstance(kept, SaveError):
                kept.errno = error.errno
            raise kept from error
        except KeyboardInterrupt:
            self._book = before
            raise

    @property
    def _maker(self) -> Maker:
        """The model, as files of results name it."""
        about = self._engine.identity or {}
        serial = str(about.get("sha256", ""))[:16] or "0"
        return Maker(str(about.get("name", "limnet")), serial=serial)

    def _context(self, key: str) -> RoundContext:
        others = self._finished_others(key)

        def excluded(index: int) -> NDArray[np.bool_] | None:
            stored = [s for state in others if not is_empty(s := state.slices[index])]
            if not stored:
                return None
            return np.logical_or.reduce([stored_levels(s) >= 128 for s in stored if s is not None])

        return RoundContext(self._engine, self._view, self._settings, self._fixed_window, excluded)

    def _finished_others(self, key: str) -> tuple[ObjectState, ...]:
        states = [(other, history.current) for other, history in self._book.histories.items() if other != key]
        return tuple(state for _, state in states if state.finished)

    def _taken(self, key: str) -> NDArray[np.bool_] | None:
        """(D, H, W) voxels of finished other objects, None if there are none; a finished object yields to nobody."""
        others = () if self._state_of(key).finished else self._finished_others(key)
        if not others:
            return None
        if self._taken_cache[0] != others:
            masks = [dense_mask(state.slices, self._volume.shape, self.axis) for state in others]
            self._taken_cache = (others, np.logical_or.reduce(masks))
        return self._taken_cache[1]


def check_name(name: Any) -> None:
    """Refuse what cannot be the name of an object."""
    if not isinstance(name, str):
        raise InputTypeError(f"the name of an object is a string, got {type(name).__name__}")
    if not name.strip():
        raise InputError("the name of an object must not be empty: give one such as 'liver'")
