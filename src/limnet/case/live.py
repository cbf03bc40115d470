"""What a screen shows of a case: masks while a round runs, and the labels that a step changed.

Both come as boxes of voxels, one for each run of neighbouring slices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.case.state import Book, ObjectState
from limnet.errors import Cancelled
from limnet.image.slices import Slice, SliceMask, Slices, is_empty, unpack
from limnet.interaction.window import join, mask_box

Extent = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""A box of voxels: (first, end) along the volume's axes 0, 1 and 2, the end excluded."""
Update = Callable[[Extent, NDArray[np.bool_], int, int], object]
"""Called with (box, mask of that box, done, total); returning False cancels the round."""
Box2D = tuple[int, int, int, int]
"""(first row, end, first column, end)."""

CHUNK = 8  # slices told together: a call every quarter of a second where 30 slices a second are found


class _Part(NamedTuple):
    """Mask pixels of one slice: the box around them and the pixels in it."""

    box: Box2D | None
    pixels: NDArray[np.bool_]


@dataclass
class Live:
    """Tells `tell`, the user's function, what changes against the slices `before` while a round runs.

    `hidden` gives the (H, W) pixels of a slice that belong to finished other objects, or None; `done` and `total` count
    the slices to compute (0 before that is known).
    """

    tell: Update
    before: Slices
    axis: int
    hidden: Callable[[int], NDArray[np.bool_] | None]
    done: int = 0
    total: int = 0
    _shown: dict[int, _Part] = field(default_factory=dict)
    _waiting: dict[int, _Part] = field(default_factory=dict)

    def shower(self, targets: Collection[int], inside: Callable[[Slice], Slice]) -> Callable[[int, Slice], None]:
        """Shows those of the `targets` that a propagation finds, kept `inside`; a second pass and blends come after."""

        def found(index: int, probability: Slice) -> None:
            if index in targets:
                self._waiting[index] = self._part(index, inside(probability) > 0.5)
                if len(self._waiting) >= CHUNK:
                    self._flush()

        return found

    def settle(self, slices: Slices, indices: Iterable[int] | None = None) -> None:
        """Make the screen show `slices`, all or only those of `indices`."""
        for index in range(len(slices)) if indices is None else indices:
            touched = index in self._shown or index in self._waiting
            if touched or slices[index] is not self.before[index]:
                self._waiting[index] = self._stored(index, slices[index])
        self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for run in _runs((i for i in sorted(waiting) if not _equal(waiting[i], self._seen(i))), CHUNK):
            frame = join(*(part.box for i in run for part in (waiting[i], self._seen(i))))
            if frame is None:
                continue
            top, bottom, left, right = frame
            stack = np.zeros((len(run), bottom - top, right - left), dtype=bool)
            for plane, index in zip(stack, run, strict=True):
                box, pixels = self._shown[index] = waiting[index]
                if box is not None:
                    plane[box[0] - top : box[1] - top, box[2] - left : box[3] - left] = pixels
            answer = self.tell(*_placed(frame, run, stack, self.axis), self.done, self.total)
            if isinstance(answer, (bool, np.bool_)) and not answer:
                raise Cancelled("the round was cancelled by on_update; the case is as it was before the round")

    def _seen(self, index: int) -> _Part:
        if index not in self._shown:
            self._shown[index] = self._stored(index, self.before[index])
        return self._shown[index]

    def _stored(self, index: int, stored: SliceMask | None) -> _Part:
        mask = np.zeros((0, 0), dtype=bool) if stored is None else unpack(stored, stored.shape) > 0.5
        return self._part(index, mask)

    def _part(self, index: int, mask: NDArray[np.bool_]) -> _Part:
        taken = self.hidden(index) if mask.size else None
        visible = mask if taken is None else mask & ~taken
        top, bottom, left, right = mask_box(visible) or (0, 0, 0, 0)
        return _Part((top, bottom, left, right) if bottom else None, visible[top:bottom, left:right].copy())


def _equal(one: _Part, other: _Part) -> bool:
    return one.box == other.box and bool(np.array_equal(one.pixels, other.pixels))


def _runs(indices: Iterable[int], most: int | None = None) -> Iterator[list[int]]:
    """Runs of neighbouring numbers among ascending ones, of at most so many."""
    run: list[int] = []
    for index in indices:
        if run and (index != run[-1] + 1 or len(run) == most):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _placed(frame: Box2D, run: Sequence[int], stack: NDArray[Any], axis: int) -> tuple[Extent, NDArray[Any]]:
    """The box of a stack (slices, rows, columns) along the volume's axes, and the stack along them."""
    sides = [(frame[0], frame[1]), (frame[2], frame[3])]
    sides.insert(axis, (run[0], run[-1] + 1))
    return (sides[0], sides[1], sides[2]), np.ascontiguousarray(np.moveaxis(stack, 0, axis))


# label maps


def label_slice(
    states: Sequence[ObjectState], index: int, shape: tuple[int, int], box: Box2D | None = None
) -> NDArray[np.uint16]:
    """(H, W) labels of slice `index`: 0 background, else 1 + the place of the object in `states`; only those in `box`.

    Where objects overlap, a finished one wins, then the higher probability, then the one that comes first.
    """
    top, bottom, left, right = box or (0, shape[0], 0, shape[1])
    labels = np.zeros((bottom - top, right - left), dtype=np.uint16)
    best = np.zeros(labels.shape, dtype=np.float32)
    for label, state in enumerate(states, start=1):
        stored = state.slices[index]
        if is_empty(stored):
            continue
        probability = unpack(stored, shape)[top:bottom, left:right]
        rank = probability + np.float32(2 * state.finished)
        wins = (probability > 0.5) & (rank > best)
        best[wins] = rank[wins]
        labels[wins] = label
    return labels


def changed_labels(
    before: Book, after: Book, shape: tuple[int, int], axis: int, shown: Iterable[int] = ()
) -> Iterator[tuple[Extent, NDArray[np.uint16]]]:
    """Labels of what differs between two moments of a case, as boxes along the volume's axes.

    Args:
        before: All objects then.
        after: All objects now.
        shape: (H, W) of a slice.
        axis: Axis of the case.
        shown: Slices a screen may show otherwise, whatever changed (those of a cancelled round).
    """
    old, new = ([history.current for history in book.histories.values()] for book in (before, after))
    depth = max((len(state.slices) for state in (*old, *new)), default=0)
    rank_changed = [state.finished for state in old] != [state.finished for state in new]
    again, whole = set(shown), (0, shape[0], 0, shape[1])
    frames: dict[int, Box2D] = {}
    for index in range(depth):
        then, now = ([state.slices[index] for state in states] for states in (old, new))
        then += [None] * (len(now) - len(then))
        now += [None] * (len(then) - len(now))
        differs = any(a is not b for a, b in zip(then, now, strict=True))
        if not (differs or index in again or (rank_changed and any(now))):
            continue
        frame = whole if index in again else join(*map(_box, (*then, *now)))
        if frame is not None:
            frames[index] = frame
    for run in _runs(sorted(frames)):
        frame = join(*(frames[index] for index in run)) or whole
        yield _placed(frame, run, np.stack([label_slice(new, index, shape, frame) for index in run]), axis)


def _box(stored: SliceMask | None) -> Box2D | None:
    if stored is None:
        return None
    top, left, height, width = stored.box
    return top, top + height, left, left + width
