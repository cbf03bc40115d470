"""Label maps of all objects of a case, whole or only where something changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from limnet.case.history import Book, ObjectState
from limnet.case.live import Extent
from limnet.image.slices import SliceMask, is_empty
from limnet.interaction.window import join

Box2D = tuple[int, int, int, int]


def label_slice(
    states: Sequence[ObjectState], index: int, shape: tuple[int, int], box: Box2D | None = None
) -> NDArray[np.uint16]:
    """(H, W) labels of one slice: 0 background, else 1 + the place of the object in `states`.

    Where objects overlap, a finished one wins, then the higher probability, then the one that comes first.

    Args:
        states: Present states of all objects in their order.
        index: The slice.
        shape: (H, W) of a slice.
        box: (first row, end, first column, end): only this part of the slice, as an array of that size.
    """
    top, bottom, left, right = box or (0, shape[0], 0, shape[1])
    labels = np.zeros((bottom - top, right - left), dtype=np.uint16)
    best = np.zeros(labels.shape, dtype=np.int16)
    for label, state in enumerate(states, start=1):
        stored = state.slices[index]
        if stored is None or is_empty(stored):
            continue
        levels = stored_levels(stored)[top:bottom, left:right]
        inside = levels >= 128
        if state.finished:
            levels += np.int16(1000)
        wins = inside & (levels > best)
        best[wins] = levels[wins]
        labels[wins] = label
    return labels


def changed_labels(
    before: Book, after: Book, shape: tuple[int, int], axis: int, shown: Iterable[int] = ()
) -> Iterator[tuple[Extent, NDArray[np.uint16]]]:
    """Labels of what differs between two moments of a case, one box for each run of neighbouring slices.

    Args:
        before: All objects then.
        after: All objects now.
        shape: (H, W) of a slice.
        axis: Axis of the case.
        shown: Slices a screen may show otherwise, whatever changed (those of a cancelled round).

    Yields:
        A box ((first, end), (first, end), (first, end)) along the volume's axes and the labels in it now.
    """
    old, new = ([history.current for history in book.histories.values()] for book in (before, after))
    depth = max((len(state.slices) for state in (*old, *new)), default=0)
    rank_changed = [state.finished for state in old] != [state.finished for state in new]
    again = set(shown)
    frames: dict[int, Box2D] = {}
    for index in range(depth):
        then, now = ([state.slices[index] for state in states] for states in (old, new))
        then += [None] * (len(now) - len(then))
        now += [None] * (len(then) - len(now))
        differs = [a if a is not None else b for a, b in zip(then, now, strict=True) if a is not b]
        if not (differs or index in again or (rank_changed and any(now))):
            continue
        whole = (0, shape[0], 0, shape[1])
        frame = whole if index in again else join(*(_box(piece) for piece in (*then, *now) if piece is not None))
        if frame is not None:
            frames[index] = frame
    run: list[int] = []
    for index in (*sorted(frames), depth + 1):
        if run and index != run[-1] + 1:
            yield _labels(new, run, frames, shape, axis)
            run = []
        run.append(index)


def stored_levels(stored: SliceMask) -> NDArray[np.int16]:
    """(H, W) stored values 0..255."""
    full = np.zeros(stored.shape, dtype=np.int16)
    top, left, height, width = stored.box
    full[top : top + height, left : left + width] = stored.levels()
    return full


def _labels(
    states: Sequence[ObjectState], run: list[int], frames: dict[int, Box2D], shape: tuple[int, int], axis: int
) -> tuple[Extent, NDArray[np.uint16]]:
    frame = join(*(frames[index] for index in run)) or (0, shape[0], 0, shape[1])
    stack = np.stack([label_slice(states, index, shape, frame) for index in run])
    sides = [(frame[0], frame[1]), (frame[2], frame[3])]
    sides.insert(axis, (run[0], run[-1] + 1))
    return (sides[0], sides[1], sides[2]), np.ascontiguousarray(np.moveaxis(stack, 0, axis))


def _box(stored: SliceMask) -> Box2D:
    top, left, height, width = stored.box
    return top, top + height, left, left + width
