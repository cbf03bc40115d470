"""Metrics: overlap, boundary and clicks-to-quality measures, with a per-case table.

All raise InputError, or InputTypeError, for masks of other shapes or dtypes and values that are no finite numbers.
Only `CaseTable` needs torchmetrics; it is imported on first use. The surface metrics need MONAI when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limnet.metrics.interaction import (
    auc_over_rounds,
    challenge_scores,
    click_compliance,
    clicks_to_quality,
    rounds_that_lost,
)
from limnet.metrics.masks import dice, hausdorff95, iou, normalized_surface_dice
from limnet.metrics.table import Table

if TYPE_CHECKING:
    from limnet.metrics.case_table import CaseTable

__all__ = [
    "CaseTable",
    "Table",
    "auc_over_rounds",
    "challenge_scores",
    "click_compliance",
    "clicks_to_quality",
    "dice",
    "hausdorff95",
    "iou",
    "normalized_surface_dice",
    "rounds_that_lost",
]


def __getattr__(name: str) -> Any:
    if name != "CaseTable":
        raise AttributeError(f"module 'limnet.metrics' has no attribute {name!r}; public names: {', '.join(__all__)}")
    from limnet.metrics.case_table import CaseTable

    return CaseTable
