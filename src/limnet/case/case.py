"""Case: one volume being annotated. The only object with a state that users see."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.case.case_object import CaseObject
from limnet.case.live import label_slice
from limnet.case.session import Session, describe, packed_voxels, write_session
from limnet.case.state import Book, Engine, ObjectState, RoundContext
from limnet.errors import ConflictError, InputError, InputTypeError, SaveError
from limnet.image.io.atomic import atomic_write
from limnet.image.io.masks import Maker
from limnet.image.slice_view import SliceView
from limnet.image.slices import dense_mask, is_empty, unpack
from limnet.image.volume import Volume
from limnet.settings import Settings

DEFAULT_OBJECT = "object"


class Case(CaseObject):
    """One volume with the objects marked in it. Get one by `InteractiveSegmenter.open`.

    A case is itself an object (named "object"), for the common task of one structure; `case.object(name)` gives more of
    them, all on the same cached image features.

    Args:
        engine: The networks at work for this case.
        volume: The volume.
        axis: Axis the slices lie along, 0, 1 or 2.
        window: (lo, hi) in raw units that maps to 0..1; None chooses per object, by its first prompt.
        settings: How rounds work.
        autosave: File to keep the session in after every step, or None.
    """

    def __init__(
        self,
        engine: Engine,
        volume: Volume,
        *,
        axis: int = 0,
        window: Sequence[float] | None = None,
        settings: Settings | None = None,
        autosave: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(self, DEFAULT_OBJECT)
        self._engine = engine
        self._volume = volume
        self._view = SliceView(volume, axis, window)
        self._fixed_window = window is not None
        self._settings = settings or Settings()
        self._book = Book()
        self._blank = ObjectState.empty(len(self._view))
        self._taken_cache: tuple[tuple[ObjectState, ...], NDArray[np.bool_] | None] = ((), None)
        self._about: tuple[dict[str, Any], bytes | None] | None = None
        self._lock = threading.RLock()  # around every change of `_book`, together with its autosave
        self._marks: dict[Path, tuple[str, ...]] = {}  # what this case last read or wrote at a place; see session.py
        self._autosave = None if autosave is None else Path(autosave).absolute()
        if self._autosave is not None:
            self.save_session(self._autosave)

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

    # objects

    def object(self, name: str) -> CaseObject:
        """The object of that name, made on first use; its label is in `objects`.

        Raises:
            InputError: if the name is no string, or empty.
        """
        check_name(name)
        with self._lock:
            if self._book.key_of(name) is None:
                self._book = self._book.with_object(name, self._blank)
            key = self._book.key_of(name)
        return self if key in (None, DEFAULT_OBJECT) else CaseObject(self, key)

    @property
    def objects(self) -> dict[str, int]:
        """Names of the objects and their labels in `labels`: 1, 2, ... in the order they were made.

        An object keeps its label for good; that of a deleted one is not given to another.
        """
        names = self._book.names
        return {names[key]: label for label, key in enumerate(self._book.histories, start=1) if key in names}

    def delete(self, name: str) -> None:
        """Delete an object: its marks, its voxels and its name. A step: `undo()` brings it back as it was.

        The labels of the other objects stay. Voxels of a finished object are free for others again.

        Raises:
            InputError: if there is no object of that name.
        """
        with self._lock:
            key = self._existing(name)
            state = self._state_of(key)
            self._push(key, replace(self._blank, name=state.name, deleted=True), state)

    def rename(self, name: str, new: str) -> None:
        """Give an object another name. A step: `undo()` takes it back. Its label stays.

        Raises:
            InputError: if there is no object `name`, or `new` is empty, no string, or the name of another object.
        """
        with self._lock:
            key = self._existing(name)
            check_name(new)
            if self._book.key_of(new) not in (None, key):
                raise InputError(f"there is an object {new!r} already: give another name, or rename that one first")
            state = self._state_of(key)
            self._push(key, replace(state, name=new), state)

    @property
    def labels(self) -> NDArray[np.uint16]:
        """Uint16 (D, H, W) label map: 0 background, else the number in `objects`.

        Where objects overlap, a finished one wins, then the higher probability, then the one made earlier.
        """
        result = np.zeros(self._volume.shape, dtype=np.uint16)
        along = np.moveaxis(result, self.axis, 0)
        states = [history.current for history in self._book.histories.values()]
        for index in range(len(self._view)):
            if any(not is_empty(state.slices[index]) for state in states):
                along[index] = label_slice(states, index, self._view.shape)
        return result

    def save_labels(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write `labels` on the volume's own grid, and the names beside it as JSON (`mask.nii.gz` -> `mask.json`).

        Of an image from DICOM also as DICOM SEG (.dcm, extra `dicom`) or RTSTRUCT (.rtstruct.dcm): one file with the
        names in it and every object whole, where label maps give a voxel of two objects to one of them.

        Returns:
            Paths of the label map and of the names, or of the one DICOM file.

        Raises:
            InputError: if no object was marked, `path` is the image itself, or there is another JSON file of that name.
            SaveError: if a file cannot be written.
        """
        if not any(history.current.rounds for history in self._book.histories.values()):
            raise InputError("no object is marked yet, there are no labels to save: click first")
        from limnet.image.io.formats import OBJECTS, check_output_for, known_suffix
        from limnet.image.io.masks import Segment, write_segments

        target = Path(path)
        check_output_for(self._volume, target)
        if known_suffix(target, OBJECTS) is not None:
            marked = {name: label for name, label in self.objects.items() if self.object(name).rounds}
            segments = [Segment(label, name, self.object(name).mask) for name, label in marked.items()]
            return (write_segments(self._volume, segments, target, self._maker),)
        base = target.name[: -len(".nii.gz")] if target.name.lower().endswith(".nii.gz") else target.stem
        beside = target.with_name(f"{base}.json")
        _check_names(beside)
        image = self._volume.write_mask(self.labels, target)
        names = {"labels": {str(label): name for name, label in self.objects.items()}}
        text = json.dumps(names, indent=2, ensure_ascii=False) + "\n"
        return image, atomic_write(beside, lambda p: p.write_text(text, encoding="utf-8"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask of the default object on the volume's own grid; see `save_labels` for several objects.

        Raises:
            InputError: if only named objects were marked, or `path` is the image itself.
            SaveError: if the file cannot be written; what was there before is untouched.
        """
        if not self._state.rounds and set(self._book.names) - {DEFAULT_OBJECT}:
            raise InputError(
                "the marked objects have names: use case.save_labels(path) for all of them, or "
                "case.object(name).save(path) for one. Names: " + ", ".join(map(repr, self.objects))
            )
        return super().save(path)

    # steps over all objects

    def undo(self) -> NDArray[np.bool_]:
        """Take back the last step of any object, bit for bit; returns the default object's mask.

        Raises:
            HistoryError: if there is nothing to undo.
        """
        self._step(lambda book: book.undo())
        return self.mask

    def redo(self) -> NDArray[np.bool_]:
        """Make the last undone step of any object again; returns the default object's mask.

        Raises:
            HistoryError: if there is nothing to redo.
        """
        self._step(lambda book: book.redo())
        return self.mask

    def save_session(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write everything needed to go on later: prompts, results, undo history, settings, and the volume's place.

        A volume that was opened from memory is written into the file. `segmenter.resume(path)` reads it.

        Args:
            path: New, or the file that this case wrote or was resumed from.
            overwrite: Replace a session with steps that this case has not seen; they are lost.

        Raises:
            InputError: if `path` is the image itself or another file that is no session.
            ConflictError: if another process or case saved a session there, and not `overwrite`; it is untouched.
            SaveError: if the file cannot be written; what was there before is untouched.
        """
        return write_session(self, Path(path), overwrite)

    # states; every change goes through `_push` or `_step`, with its autosave

    def _described(self) -> tuple[dict[str, Any], bytes | None]:
        """Description of the volume for a session file, and its packed voxels if it has no file of its own."""
        if self._about is None:  # the volume does not change: described, and packed if need be, once
            voxels = packed_voxels(self._volume) if self._volume.source is None else None
            self._about = describe(self._volume), voxels
        about = self._about
        if about[1] is not None and self._autosave is None and not self._marks:
            self._about = None  # the first save may be the only one: do not hold the packed voxels in memory
        return about

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
            return np.logical_or.reduce([unpack(s, self._view.shape) > 0.5 for s in stored])

        parts = self._engine.predictor, self._engine.propagator, self._engine.assessor
        return RoundContext(*parts, self._view, self._settings, self._fixed_window, excluded)

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


def restore(session: Session, engine: Engine) -> Case:
    """A case in the state of a session; it goes on autosaving to the file if it did before.

    Warns:
        UserWarning: if the networks are not the ones the session was made with.
    """
    if (session.identity or {}).get("sha256") != (engine.identity or {}).get("sha256"):
        warnings.warn(
            f"{session.path} was made with the model {_named(session.identity)}, this is {_named(engine.identity)}: "
            "what was segmented so far stays as it is, new rounds use this model. Load the other to go on as before",
            UserWarning,
            stacklevel=3,
        )
    case = Case(engine, session.volume, axis=session.axis, window=session.window, settings=session.settings)
    case._adopt(session.book, session.path if session.autosave else None)
    case._marks[Path(os.path.realpath(session.path))] = (session.mark,)
    return case


def check_name(name: Any) -> None:
    """Refuse what cannot be the name of an object."""
    if not isinstance(name, str):
        raise InputTypeError(f"the name of an object is a string, got {type(name).__name__}")
    if not name.strip():
        raise InputError("the name of an object must not be empty: give one such as 'liver'")


def _check_names(path: Path) -> None:
    """Refuse to replace a file that is not the names of an earlier label map."""
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or set(found) != {"labels"} or not isinstance(found["labels"], dict):
        raise InputError(
            f"the names of the labels go into {path}, which exists and holds something else: it would be lost. "
            "Give the label map another name"
        )


def _named(identity: dict[str, Any] | None) -> str:
    if not identity:
        return "(unknown)"
    return f"{identity.get('name', '(unnamed)')} [{str(identity.get('sha256', ''))[:12]}]"
