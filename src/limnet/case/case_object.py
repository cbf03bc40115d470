"""One object of a case: what a user can do with it and what comes back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.case.constraints import without_taken
from limnet.case.live import Live, Update
from limnet.case.rounds import accept_slice, apply_prompt, propagate_prompts, start_from
from limnet.case.state import ObjectState, Round, RoundContext
from limnet.case.suggestion import Suggestion, suggest
from limnet.errors import InputError, InputTypeError
from limnet.image.io.masks import chosen_label, read_mask
from limnet.image.slices import BitMask, dense_mask, dense_probability, unpack
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Scribble, mask_array
from limnet.settings import check_scope

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from limnet.case.alternatives import Alternative
    from limnet.case.case import Case
    from limnet.learning.training import Example
    from limnet.propagation.propagator import Progress


class RoundOptions(TypedDict, total=False):
    """Arguments that all prompt methods of `CaseObject` have; see there."""

    propagate: bool
    scope: str | None
    progress: Progress | None
    on_update: Update | None


class CaseObject:
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
    any of the three planes (`limnet.case.constraints`). All prompt methods return the mask, a new bool (D, H, W) array.
    Reading results is safe from any thread, also while a round runs.
    """

    def __init__(self, case: Case, key: str) -> None:
        self._case = case
        self._key = key  # stays when the object is renamed

    def __repr__(self) -> str:
        done, prompted = len(self._state.rounds), len(self._state.prompts)
        return f"<{type(self).__name__} {self.name!r}: {done} rounds, {prompted} slices prompted>"

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
        return self.prompt(Click(point, positive), **options)  # type: ignore[arg-type]

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
        return self.prompt(Box(lo, hi), **options)  # type: ignore[arg-type]

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
        ctx, before = self._begin(progress, on_update)
        chosen = check_scope(self._case.settings.scope if scope is None else scope)
        goes_on = bool(propagate) and not (isinstance(prompt, MaskPrompt) and not prompt.frozen)
        state = apply_prompt(ctx, before, prompt, goes_on)
        if goes_on:
            state = propagate_prompts(ctx, before, state, chosen)
        return self._done(ctx, state, before)

    def propagate(
        self, progress: Progress | None = None, *, scope: str | None = None, on_update: Update | None = None
    ) -> NDArray[np.bool_]:
        """Propagate the prompts that were given with `propagate=False`; with none, the last prompt once more.

        Raises:
            InputError: if nothing was prompted yet.
            Cancelled, ConflictError: see `prompt`.
        """
        ctx, state = self._begin(progress, on_update)
        chosen = check_scope(self._case.settings.scope if scope is None else scope)
        return self._done(ctx, propagate_prompts(ctx, state, state, chosen), state)

    # other answers

    def alternatives(self) -> list[Alternative]:
        """Other answers to the last prompt on its slice, smallest first, the present one among them.

        They are what the network saw at other scales and thresholds; `choose` takes one. Empty where there is no
        choice: nothing was prompted, the last prompt was a mask or on several slices, or another slice was accepted
        since.
        """
        from limnet.case.alternatives import alternatives

        case = self._case
        return [] if self.finished else alternatives(case._context(self._key), case._past(self._key))

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
        from limnet.case.alternatives import choose

        ctx, state = self._begin(progress, on_update)
        return self._done(ctx, choose(ctx, self._case._past(self._key), number), state)

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
        from limnet.learning.adapter import propose, read_adapter

        ctx, before = self._begin()
        if before.rounds:
            raise InputError(f"object {self.name!r} is marked already: propose() is for objects without prompts")
        adapter = read_adapter(name, folder)
        window = None if ctx.fixed_window else adapter.window
        view = ctx.view if window is None else ctx.view.with_window(window)
        probability = propose(adapter, ctx.predictor, view)
        if not (probability > 0.5).any():
            warnings.warn(f"no {adapter.name} was found in this volume: click on it if it is there", stacklevel=2)
            return self.mask
        state = start_from(ctx, replace(before, window=window), probability)
        return self._done(ctx, state, before)

    def _example(self) -> Example:
        """The object as an example to learn from."""
        from limnet.learning.training import Example

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
        ctx, state = self._begin()
        if not state.rounds:
            raise InputError(f"object {self.name!r} has no result to accept: mark it first")
        self._case._push(self._key, accept_slice(ctx, state, index), state)
        return self.mask

    def finish(self) -> NDArray[np.bool_]:
        """Declare the object done: it takes no more prompts, and its voxels belong to no other object from now on.

        Voxels of objects finished earlier are taken out of it.

        Raises:
            InputError: if it is finished already or has no result.
        """
        ctx, state = self._begin()
        if not state.rounds:
            raise InputError(f"object {self.name!r} has no result to finish: mark it first")
        slices = tuple(
            s if s is None or ctx.excluded(i) is None else ctx.packed(i, unpack(s, s.shape))
            for i, s in enumerate(state.slices)
        )
        self._case._push(self._key, replace(state, slices=slices, finished=True), state)
        return self.mask

    def reopen(self) -> NDArray[np.bool_]:
        """Take back `finish()` without undoing anything else; does nothing to an object that is not finished."""
        state = self._state
        if state.finished:
            self._case._push(self._key, replace(state, finished=False), state)
        return self.mask

    # results

    @property
    def name(self) -> str:
        """Name of the object, see `Case.rename`."""
        return self._case._book.names.get(self._key, self._state.name or self._key)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (D, H, W) in the volume's axis order, a new array; without the voxels of finished other objects."""
        case, taken = self._case, self._case._taken(self._key)
        mask = dense_mask(self._state.slices, case.volume.shape, case.axis)
        return mask if taken is None else mask & ~taken

    @property
    def probability(self) -> NDArray[np.float32]:
        """Float32 (D, H, W) in [0, 1], in steps of 1/255, a new array; the mask is where it is > 0.5."""
        case, taken = self._case, self._case._taken(self._key)
        probability = dense_probability(self._state.slices, case.volume.shape, case.axis)
        return probability if taken is None else np.where(taken, np.float32(0), probability)

    @property
    def quality(self) -> NDArray[np.float32]:
        """Float32 (D,), estimated quality in [0, 1] of every slice along the case's axis; 1 for prompted slices."""
        return self._state.quality.copy()

    @property
    def prompted(self) -> tuple[int, ...]:
        """Slices the user has prompted, ascending; later rounds leave them alone."""
        return tuple(sorted(self._state.prompts))

    @property
    def accepted(self) -> tuple[int, ...]:
        """Slices the user has accepted and not prompted since, ascending; they are among `prompted`."""
        prompts, accepted = self._state.prompts, {done.index: done for done in self._state.rounds if done.accepted}
        shape, axis = self._case.volume.shape, self._case.axis
        return tuple(sorted(i for i, done in accepted.items() if prompts.get(i) == (done.placed(shape, axis)[0][1],)))

    @property
    def rounds(self) -> tuple[Round, ...]:
        """What was done so far, oldest first."""
        return self._state.rounds

    @property
    def finished(self) -> bool:
        """Whether the object is finished."""
        return self._state.finished

    @property
    def bounds(self) -> tuple[int, int] | None:
        """First and last slice the object may occupy (from a 3-D box), or None."""
        return self._state.bounds

    def suggest(self, skip: Collection[int] = ()) -> Suggestion:
        """The slice to look at next and why; never one that is prompted already.

        Args:
            skip: Slices along the case's axis that were looked at and found right; they are not named either.

        Raises:
            InputError: if every slice is prompted or skipped.

        Example:
            >>> case.suggest().index
            3
            >>> case.suggest().reason
            'nothing is marked yet: start on a slice where the object is large'
        """
        return suggest(self._state, self._case.axis, frozenset(skip))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask on the volume's own grid (.nii, .nii.gz, .nrrd, .mha, .npy, .npz); returns the path.

        Of an image from DICOM also as DICOM SEG (.dcm, extra `dicom`) or RTSTRUCT (.rtstruct.dcm), which name the
        object, the model and the images.

        Raises:
            InputError: if `path` is the image itself, or has no suffix that can be written (DICOM: the image is not
                from DICOM), or the object is deleted.
            SaveError: if the file cannot be written; what was there before is untouched.
        """
        from limnet.image.io.formats import OBJECTS, check_output_for, known_suffix
        from limnet.image.io.masks import Segment, write_segments

        self._check_there()
        volume, target = self._case.volume, Path(path)
        check_output_for(volume, target)
        if known_suffix(target, OBJECTS) is not None:
            return write_segments(volume, [Segment(1, self.name, self.mask)], target, self._case._maker)
        return volume.write_mask(self.mask, target)

    # inside

    @property
    def _state(self) -> ObjectState:
        return self._case._state_of(self._key)

    def _check_there(self) -> ObjectState:
        """The present state, if the object is there."""
        state = self._state
        if state.deleted:
            raise InputError(
                f"object {self.name!r} was deleted: undo() brings it back, case.object({self.name!r}) makes a new one"
            )
        return state

    def _begin(
        self, progress: Progress | None = None, on_update: Update | None = None
    ) -> tuple[RoundContext, ObjectState]:
        """What a step works with, and the present state, if it may be changed."""
        state = self._check_there()
        if state.finished:
            raise InputError(f"object {self.name!r} is finished: call reopen() (or undo()) before changing it")
        for name, arguments, given in (
            ("progress", "(done, total)", progress),
            ("on_update", "(box, mask, done, total)", on_update),
        ):
            if given is not None and not callable(given):
                raise InputTypeError(f"{name} must be a function of {arguments}, got {type(given).__name__}")
        ctx = self._case._context(self._key)
        live = None if on_update is None else Live(on_update, state.slices, ctx.view.axis, ctx.excluded)
        return replace(ctx, progress=progress, live=live), state

    def _done(self, ctx: RoundContext, state: ObjectState, before: ObjectState) -> NDArray[np.bool_]:
        state = without_taken(state, ctx.view.volume.shape, ctx.view.axis, ctx.settings.click_fallback)
        if ctx.live is not None:
            ctx.live.settle(state.slices)
        self._case._push(self._key, state, before)
        return self.mask
