"""What `check` says, as one text."""

from __future__ import annotations

import functools
import pickle

import numpy as np

from limnet.data.dataset import LabelledDataset


def problems(dataset: LabelledDataset) -> str:
    """One line for each problem, "case: what -> advice"; every problem must give advice."""
    found = dataset.check()
    assert all(p.what and p.advice for p in found)
    return "\n".join(f"{p.case}: {p.what} -> {p.advice}" for p in found)


def read_all(dataset: LabelledDataset) -> None:
    """Every case of every split can be pickled and read, lies on one grid and holds listed labels only."""
    names = set()
    for split in dataset.splits:
        for case in dataset.cases(split):
            assert case.name not in names, f"{case.name} stands in two splits"
            names.add(case.name)
            assert isinstance(case.read_image, functools.partial)
            again = pickle.loads(pickle.dumps(case))
            volume, labels = again.read_image(), again.read_labels()
            assert labels.shape == volume.shape
            assert labels.dtype.kind == "u"
            ids = set(np.unique(labels).tolist()) - {0}
            assert ids, case.name
            assert not case.labels or ids <= set(case.labels)
