from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from limnet.datasets.sbd import SbdDataset
from tests.helpers.every_set import told
from tests.helpers.fake_pictures import disc

NAME = "sbd"


def test_lists_instances_and_classes(root: Path):
    dataset = SbdDataset(root)
    assert [c.name for c in dataset.cases("train")] == ["2008_000002", "2008_000003"]
    assert [c.name for c in SbdDataset(root / "benchmark_RELEASE/dataset").cases("val")] == ["2008_000008"]
    case = dataset.cases("train")[1]
    np.testing.assert_array_equal(case.read_labels()[0], disc(20, 17, 9) * 1 + disc(20, 40, 9) * 2)
    assert case.labels[2] == "object 2"


def test_planted_faults(root: Path):
    base = root / "benchmark_RELEASE/dataset"
    (base / "train.txt").write_text("2008_000002\n2008_000003\n2008_000099\n")
    savemat(base / "inst/2008_000008.mat", {"other": 1})
    told(
        SbdDataset(root),
        "1 of 4 cases of train.txt and val.txt are missing: 2008_000099",
        "2008_000008.mat could not be read ... It should hold GTinst",
    )
