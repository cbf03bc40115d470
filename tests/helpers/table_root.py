"""Fakes of all data sets of the paper's tables, side by side as `limnet bench table1 --data ROOT` wants them."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import fake_btcv, fake_endovis18, fake_kits19, fake_msd


def table_root(root: Path) -> Path:
    """KiTS19, three tasks of MSD, BTCV and EndoVis18."""
    fake_kits19.build(root / "KiTS19", (0, 2, 7))
    for task in ("Task06_Lung", "Task10_Colon", "Task07_Pancreas"):
        fake_msd.build(root, task)
    fake_btcv.build(root / "BTCV")
    fake_endovis18.build(root / "EndoVis18", 3)
    return root
