"""What a person gets for her clicks: clicks to a quality, area under the curve, lost rounds, obeyed clicks.

Also the scores of the CVPR 2025 challenge on interactive 3D segmentation, which are made of such curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError, InputTypeError, OutsideError

Clicked = Sequence[Any]
"""(voxel, positive), or longer with these two first, such as `RobotClick`."""

COUNTED = 5
"""Predictions that are counted: those after clicks 1 to 5. The step of the box before them is not."""

FLOOR = 0.2
"""A prediction with a mean Dice of this or less gets an NSD of 0."""


def clicks_to_quality(values: Sequence[float], quality: float, limit: int | None = None) -> int:
    """Number of clicks until a quality is reached (NoC@q), 1 to `limit`.

    The customary convention: an object that never gets there counts as `limit` clicks, the same as one that gets there
    with its last click. Report the number of objects that failed beside the mean.

    Args:
        values: Quality after click 1, 2, ... (IoU in the literature, Dice in our tables). It may be shorter than
            `limit` where nothing was left to click on.
        quality: The quality to reach, such as 0.85; equal is enough.
        limit: Clicks a user is ready to give; later values are not looked at. Default: the number of values.

    Raises:
        InputError: `limit` below 1.

    Example:
        >>> clicks_to_quality([0.7, 0.84, 0.86, 0.9], quality=0.85)
        3
    """
    curve = checked_curve(values)
    if limit is None:
        limit = len(curve)
    if limit < 1:
        raise InputError(f"limit is {limit}; a user gives at least 1 click")
    return next((i for i, value in enumerate(curve[:limit], 1) if value >= quality), limit)


def auc_over_rounds(values: Sequence[float], method: Literal["trapezoid", "mean"] = "trapezoid") -> float:
    """Area under a quality curve over the rounds, one round apart.

    "trapezoid" is the area by the trapezoid rule with a step of 1, as CVPR 2025 counts it; n values of 1 give n - 1,
    one value gives 0. "mean" is the mean of the values, in the range of the values.

    Raises:
        InputError: another method.

    Example:
        >>> auc_over_rounds([0.5, 0.75, 1.0])
        1.5
        >>> auc_over_rounds([0.5, 0.75, 1.0], method="mean")
        0.75
    """
    curve = checked_curve(values)
    if method == "mean":
        return math.fsum(curve) / len(curve)
    if method != "trapezoid":
        raise InputError(f"method {method!r} came; allowed: 'trapezoid', 'mean'")
    return math.fsum([*curve, *curve[1:-1]]) / 2 if len(curve) > 1 else 0.0


def rounds_that_lost(dice_rounds: Sequence[float], points: float = 0.02) -> tuple[int, ...]:
    """Numbers of the rounds, from 2 on, after which the mask was worse than after the round before.

    A round counts when it loses more than `points`; a loss equal to it up to rounding (1e-9) does not.

    Raises:
        InputError: `points` below 0.

    Example:
        >>> rounds_that_lost([0.8, 0.85, 0.81, 0.9])
        (3,)
    """
    curve = checked_curve(dice_rounds)
    if not (math.isfinite(points) and points >= 0):
        raise InputError(f"points is {points!r}; give a loss of 0 or more, such as 0.02")
    return tuple(i for i in range(2, len(curve) + 1) if curve[i - 2] - curve[i - 1] > points + 1e-9)


def click_compliance(mask: NDArray[np.bool_], clicks: Sequence[Clicked]) -> float:
    """Share of the clicked voxels that hold the label their click asked for, 0 to 1; 1 without clicks.

    Args:
        mask: (D, H, W) or (H, W) bool.
        clicks: (voxel, positive) in the order they were given. Where a voxel was clicked twice the later click holds,
            the rule of `limnet.case.constraints.enforce`.

    Raises OutsideError for a click outside the mask.

    Example:
        >>> click_compliance(ball, [((3, 30, 32), True), ((0, 0, 0), True)])
        0.5
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != bool:
        raise InputTypeError(
            f"a mask of type {getattr(mask, 'dtype', type(mask).__name__)} came; a bool array is expected"
        )
    wanted: dict[tuple[int, ...], bool] = {}
    for click in clicks:
        voxel = tuple(int(v) for v in click[0])
        if len(voxel) != mask.ndim or not all(0 <= v < n for v, n in zip(voxel, mask.shape, strict=True)):
            raise OutsideError(f"click {voxel} lies outside the mask of shape {mask.shape}")
        wanted[voxel] = bool(click[1])
    return sum(bool(mask[voxel]) == label for voxel, label in wanted.items()) / len(wanted) if wanted else 1.0


def checked_curve(values: Sequence[float]) -> list[float]:
    """The values as floats; InputError for no values, or one that is no finite number."""
    curve = [float(v) for v in values]
    if not curve or not all(math.isfinite(v) for v in curve):
        raise InputError(f"a curve {curve} came; at least one round and finite numbers are expected")
    return curve


def challenge_scores(dice: Sequence[Sequence[float]], nsd: Sequence[Sequence[float]]) -> dict[str, float]:
    """DSC_AUC, NSD_AUC, DSC_Final and NSD_Final of one case, as the CVPR 2025 challenge counts them.

    Takes (objects, steps): Dice and normalized surface Dice at 2 mm of every object after every step. The last five
    steps are counted, so that a first step with a box may stand before them. Areas are by the trapezoid rule with a
    step of 1 (0 to 4), final values those after the last click (0 to 1), each of the mean over the objects.

    Raises:
        InputError: tables of different or other shapes, or numbers outside 0 to 1.

    References:
        "Foundation Models for Interactive 3D Biomedical Image Segmentation", CVPR 2025, evaluation script.
    """
    try:
        dices, nsds = np.asarray(dice, dtype=float), np.asarray(nsd, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("dice and nsd are no tables of numbers; give one row an object, all of one length") from error
    if dices.ndim != 2 or dices.shape != nsds.shape or dices.shape[0] < 1 or dices.shape[1] < COUNTED:
        raise InputError(
            f"dice has shape {dices.shape}, nsd {nsds.shape}; (objects, steps) is expected for both, "
            f"with at least {COUNTED} steps"
        )
    if not (((dices >= 0) & (dices <= 1)).all() and ((nsds >= 0) & (nsds <= 1)).all()):
        raise InputError("dice or nsd holds numbers outside 0 to 1; use 0 for a prediction that failed")
    dsc = dices.mean(axis=0)[-COUNTED:]
    surface = np.where(dsc > FLOOR, nsds.mean(axis=0)[-COUNTED:], 0.0)
    return {
        "DSC_AUC": auc_over_rounds(dsc.tolist()),
        "NSD_AUC": auc_over_rounds(surface.tolist()),
        "DSC_Final": float(dsc[-1]),
        "NSD_Final": float(surface[-1]),
    }
