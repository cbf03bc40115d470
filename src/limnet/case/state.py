"""What rounds work with, and the states they leave: immutable snapshots that share what did not change, and undo."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limnet.errors import HistoryError
from limnet.image.slices import Slice, SliceMask, Slices, pack
from limnet.prompts import Prompt, Prompt2D
from limnet.settings import Scope, Settings

if TYPE_CHECKING:
    from limnet.case.live import Live
    from limnet.image.slice_view import SliceView
    from limnet.interaction.predictor import SlicePredictor
    from limnet.interaction.window import FeatureCache
    from limnet.propagation.propagator import Found, Progress
    from limnet.quality.assessor import Assessor


@dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
        prompt: What the user marked; None when the round only propagated earlier prompts.
        index: Slice of the prompt (the last one of a prompt on several), along the case's axis.
        scope: Scope it propagated with, or None if it did not propagate.
        computed: Number of slices that propagation gave.
        kept: Number of those where fusion kept the previous mask.
        reanswered: Slices prompted in earlier rounds that were predicted again, in order.
        accepted: Whether the user only accepted slice `index` as it was; `prompt` is its mask.
        marks: What a prompt on another plane was taken as on the slices (`limnet.case.constraints`).
    """

    prompt: Prompt | None
    index: int
    scope: Scope | None = None
    computed: int = 0
    kept: int = 0
    reanswered: tuple[int, ...] = ()
    accepted: bool = False
    marks: tuple[Prompt, ...] = ()

    @property
    def stated(self) -> tuple[Prompt, ...]:
        """What the round put on the slices: the prompt, or what it was taken as."""
        return self.marks or (() if self.prompt is None else (self.prompt,))

    def placed(self, shape: Sequence[int], axis: int) -> list[tuple[int, Prompt2D]]:
        """`stated` on the slices along an axis of a volume of a shape."""
        return [placed for prompt in self.stated for placed in prompt.on_slices(shape, axis)]


@dataclass(frozen=True, eq=False)
class ObjectState:
    """Everything known about one object at one moment. Never changed; every step makes a new one.

    Attributes:
        slices: Result per slice along the case's axis.
        quality: (D,) float32 in [0, 1], read-only.
        known: Slices with a result of networks or user, empty or not; it may be kept by a later fusion.
        prompts: Prompts per prompted slice, in order, from its last mask prompt on. These slices are frozen, but for
            `look_back`.
        pending: Prompted slices not propagated yet, in the order they were prompted.
        bounds: First and last slice the object may occupy, or None.
        anchor: Slice that holds the object in a starting mask, or None.
        window: Intensity window (lo, hi) of this object, or None for the view's own.
        rounds: What was done so far.
        finished: Finished objects are excluded from the others and take no more prompts.
        name: Name that the object was given later, None for the one it was made with.
        deleted: Deleted objects are empty and not among the case's objects.
    """

    slices: Slices
    quality: NDArray[np.float32]
    known: frozenset[int] = frozenset()
    prompts: Mapping[int, tuple[Prompt2D, ...]] = field(default_factory=dict)
    pending: tuple[int, ...] = ()
    bounds: tuple[int, int] | None = None
    anchor: int | None = None
    window: tuple[float, float] | None = None
    rounds: tuple[Round, ...] = ()
    finished: bool = False
    name: str | None = None
    deleted: bool = False

    @classmethod
    def empty(cls, depth: int) -> ObjectState:
        """State before anything was marked, for a volume of `depth` slices."""
        return cls((None,) * depth, frozen_array(np.ones(depth, dtype=np.float32)))


@dataclass(frozen=True, eq=False)
class History:
    """States of one object, oldest first, and which of them is the present one."""

    states: tuple[ObjectState, ...]
    position: int = 0

    @property
    def current(self) -> ObjectState:
        """The present state."""
        return self.states[self.position]

    def push(self, state: ObjectState) -> History:
        """With one more state; undone states are dropped."""
        return History((*self.states[: self.position + 1], state), self.position + 1)


@dataclass(frozen=True, eq=False)
class Book:
    """Histories of all objects of a case by key, in the order they were made, and the keys of the steps.

    An object has one key for good: the name it was made with, unless that is taken. The step done last and the one to
    redo next are the last of `done` and `undone`.
    """

    histories: Mapping[str, History] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """Key and name of every object that is not deleted, in the order they were made.

        Where undo brings back a name that another object has got meanwhile, the one made later is shown with a number.
        """
        found: dict[str, str] = {}
        for key, history in self.histories.items():
            if not history.current.deleted:
                found[key] = _unused(history.current.name or key, found.values())
        return found

    def key_of(self, name: str) -> str | None:
        """Key of the object that has this name now."""
        return next((key for key, shown in self.names.items() if shown == name), None)

    def with_object(self, name: str, state: ObjectState) -> Book:
        """With a new object in its first state; no step, so undo does not see it."""
        key = _unused(name, self.histories)
        first = state if key == name else replace(state, name=name)
        return replace(self, histories={**self.histories, key: History((first,))})

    def push(self, key: str, state: ObjectState) -> Book:
        """With a new present state of an object."""
        histories = {**self.histories, key: self.histories[key].push(state)}
        return Book(histories, (*self.done, key), tuple(other for other in self.undone if other != key))

    def undo(self, key: str | None = None) -> Book:
        """With the last step taken back, that of the object of a key or of any; HistoryError if there is none."""
        advice = "no step was made yet, or all are undone. redo() brings undone steps back"
        own, done = self._taken(self.done, key, "undo", advice)
        return self._moved(own, -1, done, (*self.undone, own))

    def redo(self, key: str | None = None) -> Book:
        """With the last undone step made again, of the object of a key or of any; HistoryError if there is none."""
        advice = "redo() follows undo(), and a new step drops what was undone"
        own, undone = self._taken(self.undone, key, "redo", advice)
        return self._moved(own, 1, (*self.done, own), undone)

    def _moved(self, key: str, by: int, done: tuple[str, ...], undone: tuple[str, ...]) -> Book:
        history = self.histories[key]
        return Book({**self.histories, key: History(history.states, history.position + by)}, done, undone)

    def _taken(self, steps: tuple[str, ...], key: str | None, what: str, advice: str) -> tuple[str, tuple[str, ...]]:
        """Key of the last of some steps, of one object or of any, and the steps without it."""
        at = max((i for i, other in enumerate(steps) if key in (None, other)), default=None)
        if at is None:
            of = "" if key is None else f" for object {self.names.get(key, key)!r}"
            raise HistoryError(f"nothing to {what}{of}: {advice}")
        return steps[at], steps[:at] + steps[at + 1 :]


def frozen_array(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The array, made read-only."""
    array.flags.writeable = False
    return array


def _unused(name: str, used: Collection[str]) -> str:
    """The name, with the first number from 2 that makes it another than those used."""
    return next(n for n in (name, *(f"{name} ({i})" for i in range(2, len(used) + 2))) if n not in used)


class SlicePropagator(Protocol):
    """Propagation: prompted slices to the slices around them; see `limnet.propagation.propagator.Propagator`."""

    def propagate(
        self,
        view: SliceView,
        prompts: Mapping[int, Slice],
        origin: int,
        scope: Scope,
        known: Callable[[int], Slice],
        progress: Progress | None,
        found: Found | None = None,
    ) -> Mapping[int, Slice]:
        """New probabilities of the slices it computed, never of prompted ones.

        `found` is given only where somebody looks; it may be called repeatedly for a slice, or never: the result
        counts.
        """
        ...

    def propagate_to(self, view: SliceView, prompts: Mapping[int, Slice], origin: int, target: int) -> Slice | None:
        """Slice `target`, not prompted, as propagated from `origin`; None if propagation ends before.

        Where it is always None, earlier prompts are not predicted again.
        """
        return None


@dataclass(frozen=True)
class Engine:
    """The three networks at work; made anew for every case, since they share one cache of image features.

    Anything with their methods may stand in for them. `identity` says what the networks are (names, hash of the
    weights), as session files hold it.
    """

    predictor: SlicePredictor | Any
    propagator: SlicePropagator
    assessor: Assessor | Any
    identity: dict[str, Any] | None = None
    cache: FeatureCache | None = None

    @property
    def held_bytes(self) -> int:
        """Memory of the image features kept for this case."""
        return 0 if self.cache is None else self.cache.bytes

    def forget(self) -> None:
        """Let go of the image features; they are computed again when they are needed."""
        if self.cache is not None:
            self.cache.clear()


@dataclass(frozen=True)
class RoundContext:
    """What the rounds of one object work with.

    Attributes:
        fixed_window: Whether the user chose the intensity window (then objects do not choose their own).
        excluded: Gives the (H, W) pixels of a slice that belong to finished other objects, or None.
        progress: Told (done, total) of the slices to compute, ending with done = total; returning False cancels.
        live: Tells a screen what changes while a round runs, or None.
    """

    predictor: SlicePredictor | Any
    propagator: SlicePropagator
    assessor: Assessor | Any
    view: SliceView
    settings: Settings
    fixed_window: bool
    excluded: Callable[[int], NDArray[np.bool_] | None]
    progress: Progress | None = None
    live: Live | None = None

    def view_of(self, state: ObjectState) -> SliceView:
        """The view with the object's intensity window."""
        return self.view if state.window is None else self.view.with_window(state.window)

    def packed(self, index: int, probability: Slice) -> SliceMask | None:
        """Store a slice without the pixels of finished other objects."""
        taken = self.excluded(index)
        return pack(probability if taken is None else np.where(taken, np.float32(0), probability))
