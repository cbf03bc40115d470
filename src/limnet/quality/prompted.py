"""What the user has said of an object, for judging the slices nobody prompted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prompted:
    """The prompted slices of an object. The newest one shows what was wrong before the round and what is right.

    Attributes:
        newest: Index of the slice prompted last; a key of `masks`.
        before: (H, W) float32 probabilities of that slice before it was prompted.
        masks: Prompted slice -> its (H, W) float32 probabilities.
    """

    newest: int
    before: NDArray[np.float32]
    masks: Mapping[int, NDArray[np.float32]]

    def other(self, index: int) -> int | None:
        """The prompted slice nearest to slice `index` that is not the newest, None if there is none."""
        others = (i for i in sorted(self.masks) if i != self.newest)
        return min(others, key=lambda i: abs(i - index), default=None)
