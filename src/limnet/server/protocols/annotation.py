"""One object that a foreign program marks in one image: its prompts turned into limnet's, and what they changed.

The programs speak of arrays in their own axis order, fractional voxels, half-open boxes and filled regions; they keep
the mask themselves and want to be told the part that changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from starlette.concurrency import run_in_threadpool

from limnet.case.live import Extent
from limnet.case.state import Book, ObjectState
from limnet.errors import Cancelled, InputError, OutsideError
from limnet.image.slices import Slices
from limnet.image.volume import Volume
from limnet.interaction.prompt_maps import outline
from limnet.prompts import Box, Click, Lasso, Prompt, Scribble
from limnet.server.open_case import Job, OpenCase
from limnet.server.protocols.requests import numbers
from limnet.server.workspace import Workspace

Change = tuple[Extent, NDArray[np.bool_]]
"""A box and the mask in it."""
Told = tuple[bool, Change | None]
"""Whether there was a prediction, or a step to take back; and what changed since the program was told last."""
Gone = Callable[[], Awaitable[bool]]
"""Whether whoever asked has hung up."""

_LOOK = 0.25  # seconds between two looks whether the client is still there


class Annotation:
    """An image and the one object a program marks in it. Nothing is kept in files: the program has its own."""

    def __init__(self, workspace: Workspace, volume: Volume) -> None:
        self.opened = open_image(workspace, volume)
        self.case = self.opened.case
        self._steps: list[int] = []  # case steps behind every interaction of the program
        self._told: Slices = self._state.slices

    @property
    def _state(self) -> ObjectState:
        return self.case._state

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the image and its masks."""
        return self.case.volume.shape

    def close(self) -> None:
        """Cancel what runs and let go of the image."""
        self.opened.close()

    # prompts of the programs as prompts of limnet; all of them raise InputError for what cannot be one

    def point(self, at: Any, positive: bool) -> list[Prompt]:
        """A click, at the nearest voxel."""
        voxel = [round(v) for v in numbers(at, 3, "a point")]
        if any(not 0 <= v < n for v, n in zip(voxel, self.shape, strict=True)):
            raise OutsideError(f"the point {voxel} is outside of the image of shape {list(self.shape)}")
        return [Click((voxel[0], voxel[1], voxel[2]), positive)]

    def box(self, sides: Any, positive: bool) -> list[Prompt]:
        """A box ((first, end), ...) per axis, the end excluded; cut to the image, empty sides one voxel wide."""
        if not isinstance(sides, (list, tuple)) or len(sides) != 3:
            raise InputError("a box has a first and an end number for each of three axes")
        lo, hi = [], []
        for side, size in zip(sides, self.shape, strict=True):
            first, end = sorted(round(v) for v in numbers(side, 2, "a side of a box"))
            end = max(end, first + 1)
            if end <= 0 or first >= size:
                raise OutsideError(f"the box {sides} is outside of the image of shape {list(self.shape)}")
            lo.append(max(first, 0))
            hi.append(min(end, size) - 1)
        if positive:
            return [Box((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]))]
        region = np.zeros(self.shape, dtype=bool)
        region[tuple(slice(a, b + 1) for a, b in zip(lo, hi, strict=True))] = True
        return [Scribble.of(region, False)]

    def scribble(self, mask: NDArray[np.bool_], positive: bool) -> list[Prompt]:
        """Painted voxels; nothing for none."""
        return [Scribble.of(mask, positive)] if self._fitting(mask).any() else []

    def lasso(self, mask: NDArray[np.bool_], positive: bool) -> list[Prompt]:
        """Filled regions on one plane: outlines. Regions that enclose nothing, or lie on no plane, are strokes."""
        if not self._fitting(mask).any():
            return []
        touched = [np.flatnonzero(mask.any(axis=tuple(o for o in range(3) if o != a))) for a in range(3)]
        flat = [a for a in (self.case.axis, 0, 1, 2) if len(touched[a]) == 1]
        if not flat:
            return [Scribble.of(mask, positive)]
        axis = flat[0]
        plane = np.moveaxis(mask, axis, 0)[touched[axis][0]]
        pieces, _ = ndimage.label(plane, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        order = (np.argsort(sizes)[::-1] + 1).tolist()
        found: list[Prompt] = []
        for number in order[:1] if positive else order:
            path = outline(pieces == number)
            points = [_lifted(point, axis, int(touched[axis][0])) for point in path]
            enclosed = len(set(points)) >= 3 and np.linalg.matrix_rank(np.array(path) - path[0]) == 2
            found.append(Lasso(tuple(points), positive) if enclosed else Scribble(tuple(points), positive))
        return found

    # steps

    async def mark(self, make: Callable[[Annotation], Sequence[Prompt]], propagate: bool, gone: Gone) -> Told:
        """Make prompts and give them as one interaction; without `propagate` the next prediction tells of it."""
        prompts = await run_in_threadpool(make, self)
        count = len(prompts)
        if not count:
            return False, None

        def step(case: Any, **watch: Any) -> None:
            for number, prompt in enumerate(prompts, start=1):
                case.prompt(prompt, propagate=propagate and number == count, **watch)

        before = len(self.case._book.done)
        try:
            await self._run(step, gone)
        finally:
            # of several prompts some may have succeeded; they are one interaction
            if made := len(self.case._book.done) - before:
                self._steps.append(made)
        return (True, self.change()) if propagate else (False, None)

    async def predict(self, gone: Gone) -> Told:
        """Propagate prompts given without."""
        if not self._state.pending:
            return False, None
        await self._run(lambda case, **watch: case.propagate(**watch), gone)
        if self._steps:
            self._steps[-1] += 1
        return True, self.change()

    async def undo(self, gone: Gone) -> Told:
        """Take back the last interaction."""
        if not self._steps:
            return False, None
        steps = self._steps[-1]

        def step(case: Any, **_: Any) -> None:
            for _number in range(steps):
                case.undo()

        await self._run(step, gone)
        self._steps.pop()
        return True, self.change()

    async def reset(self, gone: Gone) -> None:
        """Forget all prompts and the mask, for good; the image stays."""
        await self._run(lambda case, **_: case._adopt(Book(), None), gone)
        self._steps, self._told = [], self._state.slices

    async def start_from(self, mask: NDArray[np.bool_], gone: Gone) -> None:
        """Forget everything and begin with a mask that later prompts correct; the program has it already."""
        started = self._fitting(mask).any()
        await self.reset(gone)
        if started:
            await self._run(lambda case, **watch: case.set_mask(mask, frozen=False, **watch), gone)
            self._steps = [1]
        self._told = self._state.slices

    def change(self) -> Change | None:
        """What changed since the last call: the smallest box around it and the mask there; None for nothing."""
        told, now = self._told, self._state.slices
        self._told = now
        view = self.case.view
        planes: dict[int, NDArray[np.bool_]] = {}
        low, high = np.array(view.shape), np.zeros(2, dtype=np.intp)
        for index in range(len(view)):
            if told[index] is now[index]:
                continue
            was, mask = (_plane(slices, index, view.shape) for slices in (told, now))
            differs = np.argwhere(was != mask)
            if len(differs):
                planes[index] = mask
                low, high = np.minimum(low, differs.min(0)), np.maximum(high, differs.max(0) + 1)
        if not planes:
            return None
        first, end = min(planes), max(planes) + 1
        rows, columns = (int(low[0]), int(high[0])), (int(low[1]), int(high[1]))
        stack = np.stack(
            [
                (planes[i] if i in planes else _plane(now, i, view.shape))[slice(*rows), slice(*columns)]
                for i in range(first, end)
            ]
        )
        sides = [rows, columns]
        sides.insert(self.case.axis, (first, end))
        return (sides[0], sides[1], sides[2]), np.ascontiguousarray(np.moveaxis(stack, 0, self.case.axis))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The whole mask, told with it."""
        self._told = self._state.slices
        return self.case.mask

    async def _run(self, step: Callable[..., Any], gone: Gone) -> Any:
        return await finished(self.opened.submit(step), gone)

    def _fitting(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if mask.shape != self.shape:
            raise InputError(f"the mask has shape {list(mask.shape)}, the image {list(self.shape)}")
        return mask


def open_image(workspace: Workspace, volume: Volume) -> OpenCase:
    """A case on an image of another program, along the axis with the thickest slices, the first of equals."""
    axis = 0 if volume.is_color else int(np.argmax(np.round(volume.spacing, 3)))
    return workspace.open(volume, title="image of another program", keep=False, axis=axis)


async def finished(job: Job, gone: Gone) -> Any:
    """Wait for a job; cancels it when whoever asked for it has hung up. Raises what the job raised."""
    waiting = asyncio.ensure_future(asyncio.wrap_future(job.future))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_LOOK)
            if done:
                return waiting.result()
            if await gone():
                job.cancel()
    except Cancelled as error:
        raise Cancelled("the round took too long and was cancelled: nothing was changed") from error
    except asyncio.CancelledError:
        job.cancel()
        raise


def _plane(slices: Slices, index: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    stored = slices[index]
    mask = np.zeros(shape, dtype=bool)
    if stored is not None:
        top, left, height, width = stored.box
        mask[top : top + height, left : left + width] = stored.levels() >= 128
    return mask


def _lifted(point: tuple[int, int], axis: int, index: int) -> tuple[int, int, int]:
    values = list(point)
    values.insert(axis, index)
    return values[0], values[1], values[2]
