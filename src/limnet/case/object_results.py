"""What an object of a case shows: mask, probability, quality, history; the base of `CaseObject`."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limnet.case.history import ObjectState, Round
from limnet.case.store import CaseStore
from limnet.case.suggestion import Suggestion, suggest
from limnet.errors import InputError
from limnet.image.slices import dense_mask, dense_probability
from limnet.prompts import MaskPrompt, Prompt2D


class ObjectResults:
    """Results of one object. Reading them is safe from any thread, also while a round runs."""

    def __init__(self, case: CaseStore, key: str) -> None:
        self._case = case
        self._key = key  # stays when the object is renamed

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<{type(self).__name__} {self.name!r}: {len(state.rounds)} rounds, {len(state.prompts)} slices prompted>"
        )

    @property
    def name(self) -> str:
        """Name of the object, see `Case.rename`."""
        return self._case._book.names.get(self._key, self._state.name or self._key)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (D, H, W) in the volume's axis order, a new array; without the voxels of finished other objects."""
        case = self._case
        mask = dense_mask(self._state.slices, case.volume.shape, case.axis)
        taken = case._taken(self._key)
        if taken is not None:
            mask &= ~taken
        return mask

    @property
    def probability(self) -> NDArray[np.float32]:
        """Float32 (D, H, W) in [0, 1], in steps of 1/255, a new array; the mask is where it is > 0.5."""
        case = self._case
        probability = dense_probability(self._state.slices, case.volume.shape, case.axis)
        taken = case._taken(self._key)
        if taken is not None:
            probability[taken] = 0.0
        return probability

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
        state = self._state
        told = {done.index: done.prompt for done in state.rounds if done.accepted}
        return tuple(
            sorted(
                index
                for index, prompt in told.items()
                if isinstance(prompt, MaskPrompt) and state.prompts.get(index) == (Prompt2D("mask", mask=prompt.mask),)
            )
        )

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
        from limnet.image.io.formats import check_output_for
        from limnet.image.io.segments import Segment, object_suffix, write_segments

        self._check_there()
        volume, target = self._case.volume, Path(path)
        check_output_for(volume, target)
        if object_suffix(target) is not None:
            return write_segments(volume, [Segment(1, self.name, self.mask)], target, self._case._maker)
        return volume.write_mask(self.mask, target)

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
