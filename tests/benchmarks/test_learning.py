"""Which patients `limnet bench learning` plays with, and what its table says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.analyses.learning import patients, report
from benchmarks.core.analysis import Comparison
from limnet.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two scans of patient 0 and one of patient 1, in CT and PET, and a patient of another set."""
    entries = []
    scans = (
        ("p0", "tumour", "CT", 1),
        ("p0", "tumour", "PET (FDG)", 2),
        ("p1", "tumour", "CT", 3),
        ("p2", "bone", "CT", 4),
    )
    for patient, group, modality, value in scans:
        file = f"train/{group}/{patient}_{modality[:3]}.npz"
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        image, label = np.full((4, 8, 8), value, np.int16), np.ones((4, 8, 8), np.uint8)
        np.savez(tmp_path / file, image=image, label=label, spacing=(1.0, 1.0, 1.0))
        entries.append({"file": file, "split": "train", "patient": patient, "modality": modality})
    (tmp_path / "manifest.json").write_text(json.dumps({"volumes": entries}))
    return tmp_path


def test_scans_of_several_modalities_are_refused_and_one_can_be_chosen(root: Path) -> None:
    with pytest.raises(InputError, match=r"several modalities \(ct, other\): choose one by --modality"):
        patients(root, "tumour", None, "train")
    found = patients(root, "tumour", None, "train", "ct")
    assert {target.case: int(target.volume.array.max()) for target in found} == {"p0": 1, "p1": 3}
    assert [target.case for target in patients(root, "bone", 1, "train")] == ["p2"]
    assert patients(root, "bone", 2, "train") == []
    with pytest.raises(InputError, match=r"no scans of a set 'bones': give --set one of its folders \(bone, tumour\)"):
        patients(root, "bones", None, "train")
    with pytest.raises(InputError, match="no us scans"):
        patients(root, "bone", None, "train", "us")


def test_a_poor_proposal_can_be_taken_back(tmp_path: Path) -> None:
    scores = {"without": ([0.0, 0.6, 0.9], [0.0, 0.8, 0.9]), "1 known": ([0.2, 0.3, 0.4], [0.88, 0.9, 0.91])}
    rows = [
        {"variant": variant, "case": case, "object": "all", "group": "g", "dice": dice}
        for variant, found in scores.items()
        for case, dice in zip("ab", found, strict=True)
    ]
    pages: list[str] = []
    record: Any = SimpleNamespace(
        fixed={"set": "g"}, plot=tmp_path / "plot.png", finish=lambda summary, page: pages.append(page)
    )
    report(record, Comparison(rows, list(scores), 3))
    assert "| without | 0.000 | 0.700 | 0.900 | 2.0 |" in pages[0]
    assert "| 1 known | 0.540 | 0.600 | 0.655 | 1.5 |" in pages[0], "clicks: 3 for one that never gets there, and 0"
    assert "| 1 known, poor ones taken back | 0.440 | 0.750 | 0.905 | 1.0 |" in pages[0]
