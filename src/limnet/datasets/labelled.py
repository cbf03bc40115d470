"""LabelledCase: one labelled image of a data set, described in memory and read from disk only when asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from limnet.errors import InputError
from limnet.volume import Volume

MODALITIES = ("ct", "mr", "us", "photo", "endoscopy", "video", "microscopy", "other")


@dataclass(frozen=True)
class LabelledCase:
    """One labelled image, read lazily: nothing big is held, both callables read from disk each time.

    The callables are `functools.partial` of module-level functions over paths and plain values, so that a case can be
    sent to another process and its cached copy be found again (`limnet.datasets.cache` keys by the function, its
    arguments, and size and time of every file among them).

    Attributes:
        name: unique within the data set and fit for a file name, such as "case_00012".
        patient: splits never separate slices or series of one patient.
        modality: one of `MODALITIES`.
        labels: label ids -> names; background (0) left out. Empty where the data set does not name them.
        read_image: returns the image, (D, H, W) or (D, H, W, 3).
        read_labels: returns integers (D, H, W) on the image's grid.
        window: customary display window (lo, hi) in raw units, if there is one.
        cached: whether training keeps a decoded copy on disk; False where a case is one small picture.
        includes: label -> other labels that are part of its object, such as a tumour of its kidney.

    Raises:
        InputError: a name that is no file name, an unknown modality, or a label 0.
    """

    name: str
    patient: str
    modality: str
    labels: Mapping[int, str]
    read_image: Callable[[], Volume]
    read_labels: Callable[[], np.ndarray]
    window: tuple[float, float] | None = None
    cached: bool = True
    includes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.+=@-]*", self.name):
            raise InputError(f"case name {self.name!r}: use letters, digits and . _ - + = @ only, such as case_00012")
        if self.modality not in MODALITIES:
            raise InputError(f"case {self.name} has modality {self.modality!r}; allowed are {', '.join(MODALITIES)}")
        if 0 in self.labels:
            raise InputError(f"case {self.name} names label 0; that is the background and has no entry")
