"""One open case as its pages see it: what to draw, what changed, commands that change it, and the steps in words."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.case.alternatives import last_answer
from limnet.case.case import Case
from limnet.case.case_object import CaseObject
from limnet.case.live import Extent, changed_labels, label_slice
from limnet.case.state import Book, History, ObjectState
from limnet.errors import HistoryError, InputError
from limnet.image.slices import SliceMask, area, depth_inside, is_empty
from limnet.interaction.window import join
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Scribble, prompt_from_json
from limnet.server.display import DisplayVolume
from limnet.server.open_case import Event, OpenCase

MAX_OBJECTS = 255  # the page holds one byte per voxel
GOOD_ENOUGH = 0.15  # less means a slice rated .8 or better, which holds on average (benchmarks/results/calibration.md)
COLORS = (
    "#ff6b6b", "#4cc9f0", "#ffd166", "#80ed99", "#c77dff", "#ff9f43", "#6c8cff", "#f783ac", "#2dd4bf", "#b5e048",
    "#e07a5f", "#a9b4c2",
)  # fmt: skip
Message = bytes | str
Listener = Callable[[Message], None]


class Screen:
    """What pages show of an open case. Pages are told what changes; their commands become steps of the case's queue.

    Text messages are JSON with a "type": "state" (objects, history, marks), "progress", "saved", "unsaved", "closed".
    Binary ones are patches of labels: a little-endian uint32 length, a JSON header, zlib data. A header has "box"
    ((first, end) per axis), "size" (bytes unpacked) and "kind": "labels" (one byte per voxel) or "bits" (packed, of the
    object with "label", while a round runs).

    `colors` are those of objects by name, "#rrggbb", chosen before; `keep` is told whenever the user chose one.
    """

    def __init__(
        self,
        opened: OpenCase,
        colors: dict[str, str] | None = None,
        keep: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        self.opened = opened
        self.display = DisplayVolume(opened.case.volume)
        self.colors = dict(colors or {})
        self._keep = keep
        self._listeners: list[Listener] = []
        self._hints: dict[str, tuple[ObjectState, dict[str, Any] | None]] = {}
        self._busy: dict[str, Any] | None = None
        self._told: Book = self.case._book
        opened.subscribe(self._on_event)

    @property
    def case(self) -> Case:
        """The case."""
        return self.opened.case

    # for pages

    def describe(self) -> dict[str, Any]:
        """Metadata of the volume and of the case that never change."""
        more = {"title": self.opened.title, "bytes": self.display.bytes_total, "dicom": bool(self.case.volume.files)}
        return {**self.display.describe(self.case.axis), **more}

    def labels(self) -> Iterator[bytes]:
        """Zlib-compressed labels of the whole volume: one byte per voxel in array order."""
        states = self._states()
        packer = zlib.compressobj(1)
        planes: Iterable[NDArray[np.uint8]]
        if self.case.axis == 0:
            planes = (self._label_slice(states, index) for index in range(len(self.case.view)))
        else:
            labels = np.zeros(self.case.volume.shape, dtype=np.uint8)
            along = np.moveaxis(labels, self.case.axis, 0)
            for index in range(len(along)):
                along[index] = self._label_slice(states, index)
            planes = labels
        for plane in planes:
            if part := packer.compress(plane.tobytes()):
                yield part
        yield packer.flush()

    def mask_of(self, label: int) -> tuple[NDArray[np.bool_], list[int]]:
        """Voxels that show a label, as the mask of the box around them, and where the box begins."""
        states = self._states()
        if not 1 <= label <= len(states):
            raise InputError(f"there is no label {label}: the case has {len(states)} objects")
        filled = {i: s for i, s in enumerate(states[label - 1].slices) if s is not None and not is_empty(s)}
        frame = join(*((s.box[0], s.box[0] + s.box[2], s.box[1], s.box[1] + s.box[3]) for s in filled.values()))
        if frame is None:
            return np.zeros((0, 0, 0), dtype=bool), [0, 0, 0]
        first = min(filled)
        stack = np.zeros((max(filled) + 1 - first, frame[1] - frame[0], frame[3] - frame[2]), dtype=bool)
        for index in filled:
            stack[index - first] = label_slice(states, index, self.case.view.shape, frame) == label
        corner = [frame[0], frame[2]]
        corner.insert(self.case.axis, first)
        return np.moveaxis(stack, 0, self.case.axis), corner

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` the state at once and all that changes from now on; returns what ends that."""
        self._listeners.append(listener)
        listener(json.dumps(self.state()))

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    @property
    def watched(self) -> bool:
        """Whether a page looks at it."""
        return bool(self._listeners)

    def catch_up(self) -> None:
        """Tell what somebody else (a notebook) changed in the case since pages were told last."""
        if self.case._book is self._told or self.opened.busy:
            return
        before, self._told = self._told, self.case._book
        for box, labels in changed_labels(before, self._told, self.case.view.shape, self.case.axis):
            self._send(_labels_patch(box, labels))
        self._tell_state()

    def handle(self, command: dict[str, Any]) -> Future[Any] | dict[str, Any]:
        """Start the command that "do" names; the other entries are its arguments.

        Gives the answer, or the future of a step that was queued, whose result is the answer.
        """
        name = command.get("do")
        work = _COMMANDS.get(name) if isinstance(name, str) else None
        if work is None:
            raise InputError(f"unknown command {str(name)[:40]!r}: reload the page")
        return work(self, command)

    # what happens to the case

    def _on_event(self, event: Event) -> None:
        if event.kind == "patch" and event.box is not None and event.array is not None:
            label = self.case.objects.get(event.object)
            if label is not None:
                header = {"kind": "bits", "label": label, "box": event.box, "job": event.job}
                self._send(_binary(header, np.packbits(event.array)))
        elif event.kind == "labels" and event.box is not None and event.array is not None:
            self._send(_labels_patch(event.box, event.array))
        elif event.kind in ("started", "progress"):
            self._busy = {"object": event.object, "done": event.done, "total": event.total}
            self._tell({"type": "progress", **self._busy})
        elif event.kind in ("done", "failed", "cancelled"):
            self._busy = None
            self._told = self.case._book
            self._tell_state()
        elif event.kind in ("saved", "unsaved", "closed"):
            self._tell({"type": event.kind, "text": event.text})

    def state(self) -> dict[str, Any]:
        """Objects, history and marks as JSON values."""
        book = self.case._book
        names = book.names
        return {
            "type": "state",
            "busy": self._busy,
            "kept": self.opened.path is not None,
            "objects": [
                self._object(key, names[key], label, history.current)
                for label, (key, history) in enumerate(book.histories.items(), start=1)
                if key in names
            ],
            "next": len(book.histories) + 1,
            "done": steps_done(book),
            "undone": steps_undone(book),
        }

    # parts of the state

    def _object(self, key: str, name: str, label: int, state: ObjectState) -> dict[str, Any]:
        areas = [0 if s is None else s.area for s in state.slices]
        filled = [i for i, n in enumerate(areas) if n]
        voxel = float(np.prod(self.case.volume.spacing)) / 1000
        target = CaseObject(self.case, key)
        return {
            "name": name,
            "label": label,
            "color": self.colors.get(name, COLORS[(label - 1) % len(COLORS)]),
            "finished": state.finished,
            "voxels": sum(areas),
            "ml": sum(areas) * voxel,
            "slices": [filled[0], filled[-1]] if filled else None,
            "centre": self._centre(state, areas),
            "prompted": sorted(state.prompts),
            "accepted": list(target.accepted),
            "pending": len(state.pending),
            "rounds": len(state.rounds),
            "quality": [round(float(q), 2) if areas[i] else None for i, q in enumerate(state.quality)],
            "marks": [mark for r in state.rounds if r.prompt is not None and (mark := mark_of(r.prompt)) is not None],
            "hint": self._hint(key, state),
            "alternatives": not state.finished and last_answer(self.case.view, self.case._past(key)) is not None,
        }

    def _centre(self, state: ObjectState, areas: list[int]) -> list[int] | None:
        """A voxel well inside of the object, on its largest slice."""
        if not any(areas):
            return None
        index = int(np.argmax(areas))
        return self._inside(state.slices[index], index)

    def _inside(self, stored: SliceMask | None, index: int) -> list[int] | None:
        """The voxel of slice `index` where a stored mask is thickest."""
        if stored is None:
            return None
        top, left, _, _ = stored.box
        depth = depth_inside(stored.levels() >= 128)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        point = self.case.view.points_from_view([index, top + int(row), left + int(column)])
        return [int(p) for p in point]

    def _hint(self, key: str, state: ObjectState) -> dict[str, Any] | None:
        """The suggestion, kept as long as the object stays."""
        if not state.rounds or state.finished:
            return None
        kept = self._hints.get(key)
        if kept is None or kept[0] is not state:
            kept = (state, self._suggested(CaseObject(self.case, key), ()))
            self._hints[key] = kept
        return kept[1]

    def _suggested(self, target: CaseObject, skip: Iterable[int]) -> dict[str, Any] | None:
        try:
            hint = target.suggest(frozenset(skip))
        except InputError:
            return None
        state = target._state
        near = min(
            (i for i, s in enumerate(state.slices) if not is_empty(s)), key=lambda i: abs(i - hint.index), default=None
        )
        return {
            "index": hint.index,
            "score": round(hint.score, 3),
            "reason": hint.reason,
            "good": hint.score < GOOD_ENOUGH,
            "centre": None if near is None else self._inside(state.slices[near], hint.index),
        }

    # commands

    def _target(self, command: dict[str, Any], make: bool = False) -> str:
        name = _name(command, "object")
        objects = self.case.objects
        if name not in objects:
            if not make:
                raise InputError(f"there is no object {name!r} any more: choose another one")
            if len(self.case._book.histories) >= MAX_OBJECTS:
                raise InputError(f"the viewer shows up to {MAX_OBJECTS} objects: save, and open the volume again")
        return name

    def _queue(self, name: str, step: Callable[..., Any]) -> Future[Any]:
        """Queue a step of an object; what it returns is told only if it is a dictionary."""

        def work(case: Case, **watch: Any) -> Any:
            return step(case.object(name), **watch)

        return self.opened.submit(work, name).future

    def _prompt(self, command: dict[str, Any]) -> Future[Any]:
        prompt = prompt_from_json(command.get("prompt"))
        propagate = bool(command.get("propagate", True))
        make = partial(CaseObject.prompt, prompt=prompt, propagate=propagate)
        return self._queue(self._target(command, make=True), make)

    def _propagate(self, command: dict[str, Any]) -> Future[Any]:
        return self._queue(self._target(command), CaseObject.propagate)

    def _alternative(self, command: dict[str, Any]) -> Future[Any]:
        """Take the next smaller (by = -1) or larger (1) answer to the last prompt."""
        name, by = self._target(command), _whole(command, "by")
        if by not in (-1, 1):
            raise InputError("by is -1 for a smaller answer, 1 for a larger one")

        def step(target: CaseObject, **watch: Any) -> dict[str, Any]:
            answers = target.alternatives()
            number = next((i for i, a in enumerate(answers) if a.chosen), None)
            if number is None:
                raise InputError("there is no other answer to the last prompt: click where it is wrong")
            if not 0 <= number + by < len(answers):
                raise InputError(f"this is the {'smallest' if by < 0 else 'largest'} answer: click where it is wrong")
            target.choose(number + by, **watch)
            return {"number": number + by, "of": len(answers)}

        return self._queue(name, step)

    def _accept(self, command: dict[str, Any]) -> Future[Any]:
        name, index = self._target(command), _whole(command, "index")
        return self._queue(name, lambda target, **_: target.accept(index))

    def _step(self, command: dict[str, Any]) -> Future[Any]:
        """Undo (negative) or redo steps of any object."""
        steps = _whole(command, "steps")
        if not 0 < abs(steps) <= 10_000:
            raise InputError("steps is the number of steps to redo, or less than 0 to undo")

        def step(case: Case, **_: Any) -> dict[str, Any]:
            before = case._book.histories
            for made in range(abs(steps)):
                try:
                    (case.undo if steps < 0 else case.redo)()
                except HistoryError:
                    if not made:
                        raise
                    break
            book = case._book
            return {"objects": [name for key, name in book.names.items() if book.histories[key] is not before.get(key)]}

        return self.opened.submit(step).future

    def _edit(self, command: dict[str, Any]) -> Future[Any] | dict[str, Any]:
        """Make, rename, delete, reset, finish, reopen or colour an object."""
        action = command.get("action")
        name = self._target(command, make=action == "make")
        if action == "color":
            color = command.get("color")
            if not isinstance(color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", color):
                raise InputError('a colour is "#rrggbb"')
            self._recolor({name: color})
            return {}
        if action == "rename":
            to = _name(command, "to").strip()
            return self.opened.submit(lambda case, **_: self._rename(case, name, to), name).future
        if not isinstance(action, str) or action not in _EDITS:
            raise InputError(f"unknown action {str(action)[:40]!r}: reload the page")
        edit = _EDITS[action]
        return self.opened.submit(lambda case, **_: edit(case, name), name).future

    def _rename(self, case: Case, name: str, to: str) -> None:
        case.rename(name, to)
        if name in self.colors:
            self._recolor({to: self.colors[name]})  # the old name keeps it, for undo

    def _recolor(self, colors: dict[str, str]) -> None:
        self.colors.update(colors)
        if self._keep is not None:
            self._keep(self.colors)
        self._tell_state()

    def _suggest(self, command: dict[str, Any]) -> dict[str, Any]:
        skip = command.get("skip", [])
        if not isinstance(skip, list) or not all(type(i) is int for i in skip):
            raise InputError("skip is a list of slices")
        return {"hint": self._suggested(self.case.object(self._target(command)), skip)}

    def _cancel(self, command: dict[str, Any]) -> dict[str, Any]:
        return {"cancelled": self.opened.cancel()}

    # drawing and telling

    def _states(self) -> list[ObjectState]:
        return [history.current for history in self.case._book.histories.values()]

    def _label_slice(self, states: list[ObjectState], index: int) -> NDArray[np.uint8]:
        if all(is_empty(state.slices[index]) for state in states):
            return np.zeros(self.case.view.shape, dtype=np.uint8)
        return label_slice(states, index, self.case.view.shape).astype(np.uint8)

    def _tell_state(self) -> None:
        self._tell(self.state())

    def _tell(self, message: dict[str, Any]) -> None:
        self._send(json.dumps(message))

    def _send(self, message: Message) -> None:
        for listener in list(self._listeners):
            listener(message)


_COMMANDS: dict[str, Callable[[Screen, dict[str, Any]], Future[Any] | dict[str, Any]]] = {
    "prompt": Screen._prompt,
    "propagate": Screen._propagate,
    "alternative": Screen._alternative,
    "accept": Screen._accept,
    "step": Screen._step,
    "edit": Screen._edit,
    "suggest": Screen._suggest,
    "cancel": Screen._cancel,
}
_EDITS: dict[str, Callable[[Case, str], object]] = {
    "make": lambda case, name: case.object(name).name,
    "delete": lambda case, name: case.delete(name),
    "reset": lambda case, name: case.object(name).reset().shape,
    "finish": lambda case, name: case.object(name).finish().shape,
    "reopen": lambda case, name: case.object(name).reopen().shape,
}


def _labels_patch(box: Extent, labels: NDArray[Any]) -> bytes:
    return _binary({"kind": "labels", "box": box}, labels.astype(np.uint8))


def _binary(header: dict[str, Any], data: NDArray[np.uint8]) -> bytes:
    text = json.dumps({**header, "size": data.size}).encode()
    return len(text).to_bytes(4, "little") + text + zlib.compress(np.ascontiguousarray(data).data, 1)


def _whole(command: dict[str, Any], name: str) -> int:
    value = command.get(name)
    if type(value) is not int:
        raise InputError(f"{name} is a whole number")
    return value


def _name(command: dict[str, Any], entry: str) -> str:
    name = command.get(entry)
    if not isinstance(name, str) or not name.strip() or len(name) > 100:
        raise InputError("the name of an object is a text of 1 to 100 characters")
    return name


def mark_of(prompt: Prompt) -> dict[str, Any] | None:
    """Where the user marked something, for markers on the screen; masks are seen without."""
    if isinstance(prompt, Click):
        return {"kind": "click", "points": [list(prompt.point)], "positive": prompt.positive}
    if isinstance(prompt, Box):
        return {"kind": "box", "points": [list(prompt.lo), list(prompt.hi)], "positive": True}
    if isinstance(prompt, (Scribble, Lasso)) and prompt.points:
        points = [list(p) for p in prompt.points]
        return {"kind": prompt.kind, "points": points, "positive": prompt.positive}
    return None


def steps_done(book: Book) -> list[dict[str, Any]]:
    """What each step was, oldest first."""
    return _told(book, book.done, dict.fromkeys(book.histories, 0))


def steps_undone(book: Book) -> list[dict[str, Any]]:
    """What redo would make again, the next one first."""
    return _told(book, book.undone[::-1], {key: history.position for key, history in book.histories.items()})


def _told(book: Book, keys: Iterable[str], position: dict[str, int]) -> list[dict[str, Any]]:
    names = book.names
    result = []
    for key in keys:
        position[key] += 1
        history = book.histories[key]
        name = names.get(key) or history.states[position[key]].name or key
        result.append({"object": name, **_step_text(key, history, position[key])})
    return result


def _step_text(key: str, history: History, position: int) -> dict[str, Any]:
    """A step in words, and the slice it was made on."""
    before, after = history.states[position - 1], history.states[position]
    if after.deleted != before.deleted:
        return {"text": "deleted", "index": None}
    if after.name != before.name and after.rounds == before.rounds:
        return {"text": f"renamed, was {before.name or key}", "index": None}
    if after.finished != before.finished:
        return {"text": "locked" if after.finished else "unlocked", "index": None}
    if not after.rounds:
        return {"text": "reset", "index": None}
    last = after.rounds[-1]
    if last.accepted and isinstance(last.prompt, MaskPrompt):
        more = last.prompt.mask.count - area(before.slices[last.index])  # accepting alone changes nothing
        return {
            "text": f"{'larger' if more > 0 else 'smaller'} answer" if more else "slice accepted",
            "index": last.index,
        }
    if last.prompt is None or len(after.rounds) == len(before.rounds):
        return {"text": "propagated", "index": last.index}
    kind: str = last.prompt.kind
    if isinstance(last.prompt, MaskPrompt) and last.prompt.index is not None:
        kind = "drawn by hand"
    sign = "" if getattr(last.prompt, "positive", True) else " −"
    return {"text": kind + sign, "index": last.index}
