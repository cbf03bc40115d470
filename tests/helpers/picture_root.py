"""A folder with all picture sets of the click benchmark, and methods for it that processes can share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.helpers import fake_benchmarks_2d, fake_davis585
from tests.helpers.bench import Disc, DiscSession


def picture_root(root: Path) -> Path:
    """GrabCut 3 objects, Berkeley 3, SBD 2 (val), DAVIS 3, DAVIS-585 12."""
    fake_benchmarks_2d.build_grabcut(root / "GrabCut")
    fake_benchmarks_2d.build_berkeley(root / "Berkeley")
    fake_benchmarks_2d.build_sbd(root / "SBD")
    fake_benchmarks_2d.build_davis345(root / "DAVIS")
    return fake_davis585.build(root)


class StartDiscSession(DiscSession):
    def start_from(self, mask: np.ndarray) -> None:
        self.mask = mask.copy()


@dataclass(frozen=True)
class StartDisc(Disc):
    """Discs around clicks, on top of a mask to start from."""

    session = StartDiscSession

    @property
    def name(self) -> str:
        return f"start {super().name}"
