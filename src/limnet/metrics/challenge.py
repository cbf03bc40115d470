"""Scores of one case as the CVPR 2025 challenge on interactive 3D segmentation counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limnet.errors import InputError
from limnet.metrics.interaction import auc_over_rounds

COUNTED = 5
"""Predictions that are counted: those after clicks 1 to 5. The step of the box before them is not."""

FLOOR = 0.2
"""A prediction with a mean Dice of this or less gets an NSD of 0."""


def challenge_scores(dice: Sequence[Sequence[float]], nsd: Sequence[Sequence[float]]) -> dict[str, float]:
    """DSC_AUC, NSD_AUC, DSC_Final and NSD_Final of one case.

    Args:
        dice: (objects, steps): Dice of every object of the case after every step. The last five steps are counted, so
            that a first step with a box may stand before them.
        nsd: (objects, steps): normalized surface Dice at 2 mm.

    Returns:
        The areas by the trapezoid rule with a step of 1 (0 to 4) and the values after the last click (0 to 1), each of
        the mean over the objects.

    Raises:
        InputError: Other shapes, fewer than five steps, or numbers outside 0 to 1.

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
