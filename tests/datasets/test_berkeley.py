from __future__ import annotations

from pathlib import Path

import numpy as np

from limnet.datasets.berkeley import BerkeleyDataset
from tests.helpers.every_set import problems
from tests.helpers.fake_benchmarks_2d import build_berkeley
from tests.helpers.fake_pictures import disc


def test_a_case_for_each_mask(tmp_path: Path):
    cases = BerkeleyDataset(build_berkeley(tmp_path)).cases("test")
    assert [(case.name, case.patient) for case in cases] == [
        ("113044", "113044"),
        ("124084_1", "124084"),
        ("124084_2", "124084"),
    ]
    np.testing.assert_array_equal(cases[2].read_labels()[0], disc(20, 40, 9))


def test_planted_faults(tmp_path: Path):
    root = build_berkeley(tmp_path)
    (root / "images/124084.jpg").unlink()
    (root / "masks/113044.png").unlink()
    found = problems(BerkeleyDataset(root))
    assert "113044: left out, as masks/113044.png is not there" in found
    assert "124084_1: left out, as images/124084.jpg is not there" in found
    assert "no labelled case" in found
    assert ": 3 objects, published are 100" in found
