"""How much two masks agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def agreement(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice of two answers, bool (H, W); 0 when both are empty, as two answers without object confirm nothing."""
    return float(2 * (a & b).sum() / max(int(a.sum()) + int(b.sum()), 1))
