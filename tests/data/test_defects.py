from __future__ import annotations

import numpy as np
import pytest
import torch

from limnet.data.defects import DefectDataset
from limnet.data.loading import FIXED_EPOCH
from limnet.errors import FileFormatError, InputError, MissingFileError


def write(path, count=7, size=8, seed=0, **changes):
    rng = np.random.default_rng(seed)
    arrays = {
        "image": rng.integers(0, 255, (count, size, size)).astype(np.uint8),
        "previous": rng.random((count, size, size)) > 0.5,
        "current": rng.random((count, size, size)) > 0.5,
        "dice": rng.random((count, 2)).astype(np.float32),
    }
    arrays = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez_compressed(path, **arrays)
    return arrays


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingFileError, match=r"recipes/quality\.py collect"):
        DefectDataset(tmp_path / "none.npz")
    with pytest.raises(InputError, match="at least one"):
        DefectDataset([])
    (tmp_path / "bad.npz").write_bytes(b"rubbish")
    with pytest.raises(FileFormatError, match="no defect set"):
        DefectDataset(tmp_path / "bad.npz")
    for change in ({"dice": None}, {"current": np.zeros((2, 3, 3), bool)}, {"image": np.zeros((7, 8, 8))}):
        write(tmp_path / "a.npz", **change)
        with pytest.raises(FileFormatError, match=r"defect set|expected image"):
            DefectDataset(tmp_path / "a.npz")
    write(tmp_path / "a.npz")
    write(tmp_path / "b.npz", size=9)
    with pytest.raises(FileFormatError, match=r"crops of \(9, 9\)"):
        DefectDataset([tmp_path / "a.npz", tmp_path / "b.npz"])


def test_pairs_keep_their_order_and_references_come_last_in_all_files_or_none(tmp_path):
    seen = np.random.default_rng(0).integers(0, 255, (7, 7, 8, 8)).astype(np.uint8)
    arrays = write(tmp_path / "a.npz", references=seen)
    data = DefectDataset(tmp_path / "a.npz")
    samples = [data[FIXED_EPOCH, number] for number in range(len(data))]  # in order
    for number, (key, values) in enumerate({**arrays, "references": seen}.items()):
        found = torch.stack([sample[number] for sample in samples]).numpy()
        assert np.array_equal(found, values)
        assert found.dtype == (np.float32 if key == "dice" else np.uint8)
    write(tmp_path / "b.npz")
    with pytest.raises(FileFormatError, match="collect both again"):
        DefectDataset([tmp_path / "a.npz", tmp_path / "b.npz"])
    write(tmp_path / "c.npz", references=seen[:, :3])
    with pytest.raises(FileFormatError, match=r"expected uint8 \(N, 7, S, S\)"):
        DefectDataset(tmp_path / "c.npz")
