"""Metrics: overlap, boundary and clicks-to-quality measures, with a per-case table.

Names are imported on first use: only the surface metrics need MONAI and only `CaseTable` needs torchmetrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limnet.metrics.case_table import CaseTable
    from limnet.metrics.challenge import challenge_scores
    from limnet.metrics.interaction import (
        auc_over_rounds,
        click_compliance,
        clicks_to_quality,
        compliance_over_rounds,
        rounds_that_lost,
    )
    from limnet.metrics.overlap import dice, iou
    from limnet.metrics.surface import hausdorff95, normalized_surface_dice
    from limnet.metrics.table import Table

_HOMES = {
    "CaseTable": "case_table",
    "Table": "table",
    "auc_over_rounds": "interaction",
    "challenge_scores": "challenge",
    "click_compliance": "interaction",
    "clicks_to_quality": "interaction",
    "compliance_over_rounds": "interaction",
    "dice": "overlap",
    "hausdorff95": "surface",
    "iou": "overlap",
    "normalized_surface_dice": "surface",
    "rounds_that_lost": "interaction",
}

__all__ = [
    "CaseTable",
    "Table",
    "auc_over_rounds",
    "challenge_scores",
    "click_compliance",
    "clicks_to_quality",
    "compliance_over_rounds",
    "dice",
    "hausdorff95",
    "iou",
    "normalized_surface_dice",
    "rounds_that_lost",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"limnet.metrics.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'limnet.metrics' has no attribute {name!r}; public names: {', '.join(__all__)}")
