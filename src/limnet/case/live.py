"""What a screen can show while a round runs: masks of slices as they are found, then what fusion made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limnet.case.engine import Progress, Slice
from limnet.errors import Cancelled
from limnet.image.slices import SliceMask, Slices
from limnet.interaction.window import join, mask_box

Extent = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""A box of voxels: (first, end) along the volume's axes 0, 1 and 2, the end excluded."""
Update = Callable[[Extent, NDArray[np.bool_], int, int], object]
"""Called with (box, mask of that box, done, total); returning False cancels the round."""

CHUNK = 8  # slices told together: a call every quarter of a second where 30 slices a second are found


class _Part(NamedTuple):
    """Mask pixels of one slice: the box around them (first row, end, first column, end) and the pixels in it."""

    box: tuple[int, int, int, int] | None
    pixels: NDArray[np.bool_]


_EMPTY = _Part(None, np.zeros((0, 0), dtype=bool))


@dataclass
class Live:
    """Tells what changes while a round runs.

    Attributes:
        tell: The user's function.
        before: Slices of the object before the round.
        axis: Axis of the case.
        hidden: Gives the (H, W) pixels of a slice that belong to finished other objects, or None.
        done: Slices computed so far.
        total: Slices to compute in this round; 0 before that is known.
    """

    tell: Update
    before: Slices
    axis: int
    hidden: Callable[[int], NDArray[np.bool_] | None]
    done: int = 0
    total: int = 0
    _shown: dict[int, _Part] = field(default_factory=dict)
    _waiting: dict[int, _Part] = field(default_factory=dict)

    def found(self, index: int, probability: Slice) -> None:
        """A slice of (H, W) probabilities was found; told together with others that were."""
        self._waiting[index] = self._part(index, probability > 0.5)
        if len(self._waiting) >= CHUNK:
            self.flush()

    def shower(self, targets: Collection[int], inside: Callable[[Slice], Slice]) -> Callable[[int, Slice], None]:
        """Shows slices of a propagation as they are found; a second pass and the blend of both come after.

        Args:
            targets: Slices that the round computes; others are not shown.
            inside: Keeps the part of a slice that the object may occupy.
        """

        def found(index: int, probability: Slice) -> None:
            if index in targets:
                self.found(index, inside(probability))

        return found

    def settle(self, slices: Slices, indices: Iterable[int] | None = None) -> None:
        """Make the screen show `slices`, all or only those of `indices`."""
        for index in range(len(slices)) if indices is None else indices:
            touched = index in self._shown or index in self._waiting
            if touched or slices[index] is not self.before[index]:
                self._waiting[index] = self._stored(index, slices[index])
        self.flush()

    def flush(self) -> None:
        """Tell what waits, one box for every run of neighbouring slices."""
        waiting, self._waiting = self._waiting, {}
        run: list[int] = []
        for index in sorted(waiting):
            if _equal(waiting[index], self._seen(index)):
                continue
            if run and (index != run[-1] + 1 or len(run) >= CHUNK):
                self._tell(run, waiting)
                run = []
            run.append(index)
        if run:
            self._tell(run, waiting)

    def _tell(self, run: list[int], parts: dict[int, _Part]) -> None:
        frame = join(*(part.box for i in run for part in (parts[i], self._seen(i)) if part.box is not None))
        if frame is None:
            return
        top, bottom, left, right = frame
        stack = np.zeros((len(run), bottom - top, right - left), dtype=bool)
        for plane, index in zip(stack, run, strict=True):
            box, pixels = parts[index]
            if box is not None:
                plane[box[0] - top : box[1] - top, box[2] - left : box[3] - left] = pixels
            self._shown[index] = parts[index]
        sides = [(top, bottom), (left, right)]
        sides.insert(self.axis, (run[0], run[-1] + 1))
        mask = np.ascontiguousarray(np.moveaxis(stack, 0, self.axis))
        answer = self.tell((sides[0], sides[1], sides[2]), mask, self.done, self.total)
        if isinstance(answer, (bool, np.bool_)) and not answer:
            raise Cancelled("the round was cancelled by on_update; the case is as it was before the round")

    def _seen(self, index: int) -> _Part:
        if index not in self._shown:
            self._shown[index] = self._stored(index, self.before[index])
        return self._shown[index]

    def _stored(self, index: int, stored: SliceMask | None) -> _Part:
        if stored is None:
            return _EMPTY
        full = np.zeros(stored.shape, dtype=bool)
        top, left, height, width = stored.box
        full[top : top + height, left : left + width] = stored.levels() >= 128
        return self._part(index, full)

    def _part(self, index: int, mask: NDArray[np.bool_]) -> _Part:
        taken = self.hidden(index)
        visible = mask if taken is None else mask & ~taken
        box = mask_box(visible)
        return _EMPTY if box is None else _Part(box, visible[box[0] : box[1], box[2] : box[3]].copy())


def _equal(one: _Part, other: _Part) -> bool:
    return one.box == other.box and bool(np.array_equal(one.pixels, other.pixels))


def watched(progress: Progress | None, live: Live | None, before: int, share: int, total: int) -> Progress | None:
    """Progress of one propagation, which has `share` of the round's `total` slices and comes after `before` of them."""
    if progress is None and live is None:
        return None

    def tell(done: int, of: int) -> None:
        at = before + share * done // max(of, 1)
        if live is not None:
            live.done, live.total = at, total
        answer = None if progress is None else progress(at, total)
        if isinstance(answer, (bool, np.bool_)) and not answer:
            raise Cancelled("the round was cancelled by the progress callback; the case is as it was before the round")

    return tell
