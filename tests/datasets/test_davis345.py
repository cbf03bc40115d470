from __future__ import annotations

from pathlib import Path

import numpy as np

from limnet.datasets.davis345 import Davis345Dataset
from tests.helpers.every_set import problems
from tests.helpers.fake_benchmarks_2d import build_davis345
from tests.helpers.fake_nifti import damage
from tests.helpers.fake_pictures import disc


def test_any_channel_counts(tmp_path: Path):
    cases = Davis345Dataset(build_davis345(tmp_path)).cases("test")
    assert [case.name for case in cases] == ["00000", "00001", "00002"]
    for number, case in enumerate(cases):
        np.testing.assert_array_equal(case.read_labels()[0], disc(20, 28, 10 + number))


def test_planted_faults(tmp_path: Path):
    root = build_davis345(tmp_path)
    damage(root / "gt/00001.png")
    (root / "gt/00002.png").unlink()
    found = problems(Davis345Dataset(root))
    assert "00001: could not be read" in found
    assert "00002: left out, as gt/00002.png is not there" in found
    assert ": 3 frames, published are 345" in found
    assert len(found.splitlines()) == 3
