"""Which patients `limnet bench learning` plays with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analyses.learning import patients
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
