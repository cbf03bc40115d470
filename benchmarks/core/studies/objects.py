"""The objects of a suite that the analysis scripts work on, with their images, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.fingerprint import array_mark
from benchmarks.core.rounds import object_seed
from benchmarks.core.suite import Suite
from limnet.errors import InputError
from limnet.volume import Volume


class StudyObject(NamedTuple):
    """One object with its image.

    Attributes:
        case: name of its case.
        object: name, unique within the case.
        group: row of the tables it belongs to.
        volume: the image; slices lie along axis 0.
        truth: bool (D, H, W).
        data: hash of image and truth (`array_mark`); kept rows of other data under the same names do not count.
    """

    case: str
    object: str
    group: str
    volume: Volume
    truth: NDArray[np.bool_]
    data: str = ""

    @property
    def key(self) -> dict[str, str]:
        """What names the object in kept rows."""
        return {"case": self.case, "object": self.object}

    @property
    def number(self) -> int:
        """Number of the object, which seeds what is random about it; the same on every machine."""
        return object_seed(self.case, self.object)


def study_objects(suite: Suite, only: str = "") -> Iterator[StudyObject]:
    """Objects of a suite in its order; one image is in memory at a time.

    Args:
        suite: with slices along axis 0.
        only: only cases whose name holds this.

    Raises:
        InputError: an object has slices along another axis.
    """
    for case in suite.cases:
        if only not in case.name:
            continue
        volume = case.read_image()
        for found in suite.choice_of(case.name).objects(case, volume):
            if found.axis != 0:
                raise InputError(f"the slices of {case.name} lie along axis {found.axis}; these scripts take axis 0")
            group = found.group if suite.group is None else suite.group(case.name, found.group)
            data = array_mark(volume.spacing, volume.array, found.mask)
            yield StudyObject(case.name, found.object, group, volume, found.mask, data)
