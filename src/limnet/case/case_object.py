"""One object of a case: what a user can do with it and what comes back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.case.alternatives import Alternative, other_answers
from limnet.case.constraints import without_taken
from limnet.case.engine import Progress, RoundContext
from limnet.case.history import ObjectState, Round
from limnet.case.live import Live, Update
from limnet.case.object_results import ObjectResults
from limnet.case.rounds import accept_slice, apply_prompt, propagate_prompts, start_from
from limnet.errors import InputError, InputTypeError
from limnet.image.bitmask import BitMask
from limnet.image.io.masks import chosen_label, read_mask
from limnet.image.slices import pack, unpack
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Scribble, mask_array
from limnet.settings import check_scope

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from limnet.learning.samples import Example


class RoundOptions(TypedDict, total=False):
    """Arguments that all prompt methods of `CaseObject` have; see there."""

    propagate: bool
    scope: str | None
    progress: Progress | None
    on_update: Update | None


class CaseObject(ObjectResults):
    """One object (an organ, a lesion) in the volume of a case. Get one by `case.object("liver")`.

    Every prompt method makes one round: interaction on the prompted slice, propagation to the others, fusion with the
    result of the round before. It either succeeds as a whole or leaves the object as it was. Common arguments:

    - `propagate`: False predicts the prompted slice only; `propagate()` later does the rest for all such prompts.
    - `scope`: "volume" or "interval", instead of the setting.
    - `progress`: called with (done, total) slices; returning False cancels (`Cancelled`). Ctrl-C is safe too.
    - `on_update`: called with (box, mask of that box, done, total) whenever the mask changes while the round runs, for
      a screen: the prompted slice first, then slices as they are found, then what fusion made of them. `box` is
      ((first, end), (first, end), (first, end)) along the volume's axes. Returning False cancels. Whoever pastes every
      mask into the mask before the round has the mask that the method returns; a cancelled round left the case as it
      was, and so should the screen.

    Points are (z, y, x) integer voxel indices in the volume's axis order. Scribbles, boxes and lassos may be drawn on
    any of the three planes (`limnet.case.planes`). All prompt methods return the mask, a new bool (D, H, W) array.
    """

    # prompts

    def click(self, point: Sequence[int], positive: bool = True, **options: Unpack[RoundOptions]) -> NDArray[np.bool_]:
        """Mark one voxel (z, y, x) as object (positive) or background; it keeps that label.

        Raises:
            OutsideError: if the voxel is outside the volume.
            InputError: for anything else that is not three integers, or a voxel of a finished object.
            Cancelled: if `progress` returned False.

        Example:
            >>> mask = case.click((3, 30, 32))
            >>> mask.shape, bool(mask[3, 30, 32])
            ((7, 64, 64), True)
            >>> mask = case.click((3, 4, 4), positive=False)
            >>> bool(mask[3, 4, 4])
            False
        """
        return self.prompt(Click(_triple(point), positive), **options)

    def scribble(
        self, points_or_mask: ArrayLike, positive: bool = True, **options: Unpack[RoundOptions]
    ) -> NDArray[np.bool_]:
        """Mark a stroke: (N, 3) points of a polyline, or painted voxels as a bool (D, H, W) array.

        A positive stroke through several slices, as on a sagittal plane of an axial case, is a prompt on each of them.
        A negative one on such a plane is taken like a negative click in its middle, and its own voxels go.

        Raises:
            OutsideError: if a point is outside the volume.
            InputError: if it is empty, or of the wrong shape or type.

        Example:
            >>> mask = case.scribble([(3, 25, 25), (3, 30, 32), (3, 36, 38)])
            >>> bool(mask[3, 25, 25] and mask[3, 36, 38])
            True
        """
        return self.prompt(Scribble.of(points_or_mask, positive), **options)

    def box(self, lo: Sequence[int], hi: Sequence[int], **options: Unpack[RoundOptions]) -> NDArray[np.bool_]:
        """Say that the object lies between two corners (z, y, x), both inclusive.

        The box is the prompt of its middle slice. Along the case's axis it also bounds the object: slices outside are
        empty, until a later prompt outside widens the bounds. A box one slice thick (lo and hi on the same slice) is a
        2-D box and bounds nothing. A box that is flat along another axis is a 2-D box on that plane: it says how far
        the object reaches there, and bounds it if it is the object's first prompt.

        Raises:
            OutsideError: if a corner is outside the volume.
            InputError: if lo > hi in any coordinate, or the corners are not three integers each.

        Example:
            >>> mask = case.box((1, 11, 13), (5, 49, 51))
            >>> np.flatnonzero(mask.any(axis=(1, 2))).tolist()
            [1, 2, 3, 4, 5]
        """
        return self.prompt(Box(_triple(lo), _triple(hi)), **options)

    def lasso(self, points: ArrayLike, positive: bool = True, **options: Unpack[RoundOptions]) -> NDArray[np.bool_]:
        """Draw a closed outline of (N >= 3, 3) points around the object or around what is not object.

        It lies on one slice, or on one plane across the slices; there a positive one is taken like a flat box, and a
        negative one like a negative click in the middle of what it takes away, all of which goes.

        Raises:
            OutsideError: if a point is outside the volume.
            InputError: if it encloses nothing or does not lie on one plane.
        """
        return self.prompt(Lasso(points, positive), **options)  # type: ignore[arg-type]

    def set_mask(
        self,
        mask: ArrayLike | str | os.PathLike[str],
        index: int | None = None,
        *,
        frozen: bool = True,
        label: int | None = None,
        **options: Unpack[RoundOptions],
    ) -> NDArray[np.bool_]:
        """State the mask itself: one slice (bool (H, W) with its index), the volume (bool (D, H, W)), or a file.

        In a (D, H, W) mask every slice that is not empty is stated. Two or more such slices without a gap are taken as
        the whole object: nothing is added beyond its ends. A single slice, or slices with gaps, are propagated. An
        empty (H, W) mask says that the object is absent from that slice and ends there.

        Args:
            mask: Boolean, or integers that are only 0 and 1; or a file with a mask on the volume's grid
                (`limnet.image.io.masks.read_mask`).
            index: Slice of an (H, W) mask along the case's axis.
            frozen: False makes a (D, H, W) mask a starting result that later rounds may change, not a set of prompts
                (for correcting a mask from elsewhere).
            label: Which label of a label map with several.
            options: See the class.

        Raises:
            InputError: if the shape or the file's grid does not fit, a (D, H, W) mask is empty, or `label` is needed.
            MissingFileError: if there is no such file.
            FileFormatError: if the file is damaged or no mask.

        Example:
            >>> mask = case.set_mask(ball)
            >>> bool((mask == ball).all())
            True
        """
        if isinstance(mask, (str, os.PathLike)):
            mask = read_mask(mask, self._case.volume, label)
        elif label is not None:
            mask = chosen_label(mask_array(mask), label)
        stated = MaskPrompt(BitMask.of(mask_array(mask)), index, frozen)
        return self.prompt(stated, **(options if stated.frozen else {**options, "propagate": False}))

    def prompt(
        self,
        prompt: Prompt,
        *,
        propagate: bool = True,
        scope: str | None = None,
        progress: Progress | None = None,
        on_update: Update | None = None,
    ) -> NDArray[np.bool_]:
        """One round from a prompt object; the other methods come here.

        Raises:
            InputError: if the prompt does not fit the volume.
            Cancelled: if `progress` returned False.
            ConflictError: if the object was changed meanwhile (by `progress` or another thread); that change holds. Or
                if another process saved the case's session file; then the round is kept in memory.
        """
        if not isinstance(prompt, Prompt):
            raise InputTypeError(
                f"a prompt is a Click, Scribble, Box, Lasso or MaskPrompt, got {type(prompt).__name__}: "
                "make one, or call click(), scribble(), box(), lasso() or set_mask()"
            )
        if not isinstance(propagate, (bool, np.bool_)):
            raise InputTypeError(f"propagate must be True or False, got {propagate!r}")
        before = self._check_open()
        ctx = self._case._context(self._key)
        chosen = check_scope(self._case.settings.scope if scope is None else scope)
        _check_callback("progress", "(done, total)", progress)
        ctx = self._shown_on(ctx, before, on_update)
        goes_on = bool(propagate) and not (isinstance(prompt, MaskPrompt) and not prompt.frozen)
        state = apply_prompt(ctx, before, prompt, goes_on)
        if goes_on:
            state = propagate_prompts(ctx, before, state, chosen, progress)
        return self._done(ctx, state, before)

    def propagate(
        self, progress: Progress | None = None, *, scope: str | None = None, on_update: Update | None = None
    ) -> NDArray[np.bool_]:
        """Propagate the prompts that were given with `propagate=False`; with none, the last prompt once more.

        Raises:
            InputError: if nothing was prompted yet.
            Cancelled: if `progress` returned False.
            ConflictError: see `prompt`.
        """
        state = self._check_open()
        _check_callback("progress", "(done, total)", progress)
        chosen = check_scope(self._case.settings.scope if scope is None else scope)
        ctx = self._shown_on(self._case._context(self._key), state, on_update)
        return self._done(ctx, propagate_prompts(ctx, state, state, chosen, progress), state)

    # other answers

    def alternatives(self) -> list[Alternative]:
        """Other answers to the last prompt on its slice, smallest first, the present one among them.

        They are what the network saw at other scales and thresholds; `choose` takes one. Empty where there is no
        choice: nothing was prompted, the last prompt was a mask or on several slices, or another slice was accepted
        since.
        """
        found = self._last_answer()
        if found is None or self._state.finished:
            return []
        before, _, prompt = found
        index, answers = other_answers(self._case._context(self._key), before, self._state, prompt)
        present = unpack(self._state.slices[index], self._case.view.shape) > 0.5
        masks = [answer > 0.5 for answer in answers]
        if len(masks) < 2:
            return []
        return [Alternative(index, m, int(m.sum()), bool(np.array_equal(m, present))) for m in masks]

    def choose(
        self, number: int, *, progress: Progress | None = None, on_update: Update | None = None
    ) -> NDArray[np.bool_]:
        """Take one of `alternatives` as the answer to the last prompt, and do the round over with it.

        The slice then counts as accepted. One step, which `undo()` takes back.

        Args:
            number: Place in the list, from 0.
            progress: See the class.
            on_update: See the class.

        Raises:
            InputError: if there is no such alternative.
            Cancelled: if `progress` or `on_update` returned False.
        """
        state = self._check_open()
        _check_callback("progress", "(done, total)", progress)
        found = self._last_answer()
        ctx = self._shown_on(self._case._context(self._key), state, on_update)
        if found is None:
            raise InputError(
                "there are no other answers to choose from: they belong to a prompt just given on one slice"
            )
        before, done, prompt = found
        index, answers = other_answers(ctx, before, state, prompt)
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < len(answers):
            raise InputError(f"alternative {number!r} came: there are 0..{len(answers) - 1}, see alternatives()")
        goes_on = done.scope is not None
        new = apply_prompt(ctx, before, prompt, goes_on, {index: answers[number]})
        if done.scope is not None:
            new = propagate_prompts(ctx, before, new, done.scope, progress)
        new = replace(accept_slice(ctx, new, index), name=state.name)  # it may have been renamed since
        return self._done(ctx, new, state)

    # learned tasks

    def propose(self, name: str, *, folder: str | os.PathLike[str] | None = None) -> NDArray[np.bool_]:
        """First mask without a click, from what `InteractiveSegmenter.learn` learned under a name; one step.

        Later prompts correct it, like any starting mask. `quality` and `suggest()` tell where to look.

        Args:
            name: Of the task, or the path of a file that somebody shared.
            folder: Where it is kept; the user's own adapters by default.

        Returns:
            The mask; empty, and no step, if the object was not found.

        Raises:
            InputError: if the object is marked already, or the task was learned with another model or modality.
            MissingFileError: if nothing was learned under this name.
            ModelFormatError: if the file is damaged or newer than this limnet.

        Warns:
            UserWarning: if the object was not found.
        """
        from limnet.learning.adapter import read_adapter
        from limnet.learning.proposal import propose

        before = self._check_open()
        if before.rounds:
            raise InputError(f"object {self.name!r} is marked already: propose() is for objects without prompts")
        ctx, adapter = self._case._context(self._key), read_adapter(name, folder)
        predictor: Any = ctx.engine.predictor
        encoder, modality = getattr(predictor, "encoder", None), self._case.volume.modality
        if encoder is None:
            raise InputError("the click network of this case cannot propose: learning works with limnet-tiny")
        adapter.check(predictor.network)
        if None not in (modality, adapter.modality) and modality != adapter.modality:
            raise InputError(f"{adapter.name!r} was learned on {adapter.modality}, this volume is {modality}")
        window = None if ctx.fixed_window else adapter.window
        view = ctx.view if window is None else ctx.view.with_window(window)
        probability = propose(adapter, encoder, view)
        if not (probability > 0.5).any():
            warnings.warn(f"no {adapter.name} was found in this volume: click on it if it is there", stacklevel=2)
            return self.mask
        state = start_from(ctx, replace(before, window=window), probability)
        return self._done(ctx, state, before)

    def _example(self) -> Example:
        """The object as an example to learn from."""
        from limnet.learning.samples import Example

        case, state = self._case, self._check_there()
        view = case._context(self._key).view_of(state)
        return Example(view, view.to_view(self.mask), case.volume.modality)

    # steps

    def undo(self) -> NDArray[np.bool_]:
        """Take back the last step of this object; the state before it comes back bit for bit.

        Raises:
            HistoryError: if there is nothing to undo.

        Example:
            >>> first = case.click((3, 30, 32))
            >>> second = case.click((1, 30, 44), positive=False)
            >>> bool((case.undo() == first).all())
            True
        """
        self._case._step(lambda book: book.undo(self._key))
        return self.mask

    def redo(self) -> NDArray[np.bool_]:
        """Make the last undone step of this object again.

        Raises:
            HistoryError: if there is nothing to redo.
        """
        self._case._step(lambda book: book.redo(self._key))
        return self.mask

    def reset(self) -> NDArray[np.bool_]:
        """Forget every prompt and result of this object. A step like any other: `undo()` brings them back."""
        state = self._check_there()
        self._case._push(self._key, replace(self._case._blank, name=state.name), state)
        return self.mask

    def accept(self, index: int) -> NDArray[np.bool_]:
        """Freeze a slice as it is, bit for bit, whatever later rounds do; an empty one says that the object ends there.

        A step like any other: `undo()` takes it back. Only a prompt of the user on the slice itself changes it again.

        Args:
            index: Slice along the case's axis.

        Raises:
            OutsideError: if there is no such slice.
            InputError: if the object has no result yet.
        """
        state = self._check_open()
        if not state.rounds:
            raise InputError(f"object {self.name!r} has no result to accept: mark it first")
        self._case._push(self._key, accept_slice(self._case._context(self._key), state, index), state)
        return self.mask

    def finish(self) -> NDArray[np.bool_]:
        """Declare the object done: it takes no more prompts, and its voxels belong to no other object from now on.

        Voxels of objects finished earlier are taken out of it.

        Raises:
            InputError: if it is finished already or has no result.
        """
        state = self._check_open()
        if not state.rounds:
            raise InputError(f"object {self.name!r} has no result to finish: mark it first")
        ctx = self._case._context(self._key)
        slices = list(state.slices)
        for i, stored in enumerate(slices):
            taken = None if stored is None else ctx.excluded(i)
            if taken is not None:
                slices[i] = pack(np.where(taken, np.float32(0), unpack(stored, taken.shape)))
        self._case._push(self._key, replace(state, slices=tuple(slices), finished=True), state)
        return self.mask

    def reopen(self) -> NDArray[np.bool_]:
        """Take back `finish()` without undoing anything else; does nothing to an object that is not finished."""
        state = self._state
        if state.finished:
            self._case._push(self._key, replace(state, finished=False), state)
        return self.mask

    def _shown_on(self, ctx: RoundContext, before: ObjectState, on_update: Update | None) -> RoundContext:
        _check_callback("on_update", "(box, mask, done, total)", on_update)
        if on_update is None:
            return ctx
        return replace(ctx, live=Live(on_update, before.slices, ctx.view.axis, ctx.excluded))

    def _done(self, ctx: RoundContext, state: ObjectState, before: ObjectState) -> NDArray[np.bool_]:
        state = without_taken(state, ctx.view.volume.shape, ctx.view.axis, ctx.settings.click_fallback)
        if ctx.live is not None:
            ctx.live.settle(state.slices)
        self._case._push(self._key, state, before)
        return self.mask

    def _last_answer(self) -> tuple[ObjectState, Round, Prompt] | None:
        """The state before the last prompt, its round, and the prompt, if that was one on a single slice."""
        state = self._state
        number = max((i for i, done in enumerate(state.rounds) if not done.accepted), default=None)
        if number is None:
            return None
        done = state.rounds[number]
        prompt = done.prompt
        if prompt is None or isinstance(prompt, MaskPrompt) or done.marks:
            return None
        if any(later.index != done.index for later in state.rounds[number + 1 :]):
            return None
        if len(prompt.on_slices(self._case.volume.shape, self._case.axis)) != 1:
            return None
        earlier = [s for s in self._case._past(self._key) if s.rounds == state.rounds[:number]]
        return (earlier[-1], done, prompt) if earlier else None

    def _check_open(self) -> ObjectState:
        """The present state, if it may be changed."""
        state = self._check_there()
        if state.finished:
            raise InputError(f"object {self.name!r} is finished: call reopen() (or undo()) before changing it")
        return state


def _triple(value: Any) -> tuple[int, int, int]:
    return value  # checked by the prompt itself


def _check_callback(name: str, arguments: str, given: Any) -> None:
    if given is not None and not callable(given):
        raise InputTypeError(f"{name} must be a function of {arguments}, got {type(given).__name__}")
