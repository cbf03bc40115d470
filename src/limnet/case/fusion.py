"""Multi-round result fusion (MRF), equations (1)-(4) of the LIM-Net paper.

Eq. (1) asks for the masks that maximise the sum over slices of P_i [M_i = previous] + (1 - P_i) [M_i = current],
with P_i = f(s_i, previous_i, current_i) (eq. 2, batched in eq. 3) the probability that the previous mask is the better
one. The sum has one independent term per slice, so the maximum takes the previous mask where P_i > 1/2; eq. (4) makes
that threshold tau a parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limnet.errors import InputError

T = TypeVar("T")


def keep_previous(probability: ArrayLike, tau: float = 0.5) -> NDArray[np.bool_]:
    """Eq. (4): which slices keep the mask of the previous round.

    Args:
        probability: (N,) P_i in [0, 1] that the previous mask is better.
        tau: Threshold in [0, 1].

    Returns:
        (N,) True where P_i > tau. Equality takes the new mask.

    Raises:
        InputError: if a value is NaN or outside [0, 1], or the array is not one-dimensional.
    """
    p = np.asarray(probability, dtype=np.float64)
    if p.ndim != 1:
        raise InputError(f"one probability per slice is needed, got an array of shape {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("probabilities must lie in [0, 1] without NaN; check the quality network")
    if not 0 <= tau <= 1:
        raise InputError(f"tau is {tau}; it must lie in [0, 1]")
    return p > tau


def fuse(
    previous: Sequence[T],
    current: Sequence[T],
    probability: ArrayLike,
    tau: float = 0.5,
    frozen: Collection[int] = (),
) -> list[T]:
    """Choose per slice between two rounds, eq. (4).

    Args:
        previous: N masks of the round before (any objects, they are handed through untouched).
        current: N masks of this round.
        probability: (N,) P_i in [0, 1] that the previous mask is better.
        tau: Threshold in [0, 1].
        frozen: Positions that take the current mask whatever P says (prompted slices, already right in `current`).

    Returns:
        N masks, each one of the two given ones.

    Raises:
        InputError: if the lengths differ or probabilities are invalid.
    """
    keep = keep_previous(probability, tau)
    if not len(previous) == len(current) == len(keep):
        raise InputError(
            "fusion needs one probability and two masks per slice, got "
            f"{len(previous)} previous, {len(current)} current, {len(keep)} probabilities"
        )
    held = frozenset(frozen)
    return [previous[i] if keep[i] and i not in held else current[i] for i in range(len(keep))]


def objective(probability: ArrayLike, kept: ArrayLike) -> float:
    """Value of eq. (1) for a choice: sum of P_i where the previous mask is kept and of 1 - P_i where it is not.

    Args:
        probability: (N,) P_i.
        kept: (N,) True where the previous mask was chosen.
    """
    p, k = np.asarray(probability, dtype=np.float64), np.asarray(kept, dtype=bool)
    if p.shape != k.shape:
        raise InputError(f"one choice per probability is needed, got shapes {p.shape} and {k.shape}")
    return float(np.where(k, p, 1 - p).sum())
