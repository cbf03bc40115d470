"""Fakes of the medical volume sets by the name of their data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.helpers import (
    fake_amos22,
    fake_bids,
    fake_btcv,
    fake_cvpr25,
    fake_kits19,
    fake_msd,
    fake_totalsegmentator,
)

MEDICAL_SETS: dict[str, Callable[[Path], Path]] = {
    "amos22": fake_amos22.build,
    "amos22-ct": fake_amos22.build,
    "amos22-mr": fake_amos22.build,
    "bids": fake_bids.build,
    "btcv": fake_btcv.build,
    "cvpr25": fake_cvpr25.build,
    "kits19": fake_kits19.build,
    "msd-colon": partial(fake_msd.build, task="Task10_Colon"),
    "msd-lung": partial(fake_msd.build, task="Task06_Lung"),
    "msd-pancreas": partial(fake_msd.build, task="Task07_Pancreas"),
    "totalsegmentator": fake_totalsegmentator.build,
}
