"""How much two masks agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def agreement(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice of two answers, bool of one shape; 0 when both are empty, as two answers without object confirm nothing."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2.0 * np.count_nonzero(a & b) / total if total else 0.0
