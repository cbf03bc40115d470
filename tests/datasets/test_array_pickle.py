from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from limnet.data.files import load_pickle
from limnet.errors import FileFormatError

HERE = Path("x.pickle")


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_arrays_in_containers_come_back(protocol: int):
    content = {"a": ([np.arange(6, dtype=np.uint8)], [(0, np.int64(3))]), 5: None}
    found = load_pickle(io.BytesIO(pickle.dumps(content, protocol)), HERE)
    np.testing.assert_array_equal(found["a"][0][0], np.arange(6))
    assert found["a"][1] == [(0, 3)]
    assert found[5] is None


def test_the_old_name_of_numpys_core_is_understood():
    data = pickle.dumps(np.arange(3), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in data
    np.testing.assert_array_equal(load_pickle(io.BytesIO(data), HERE), [0, 1, 2])


def test_object_arrays_come_back():
    boxes = np.array([{"z_min": 1}, {"z_min": 2}], dtype=object)
    assert load_pickle(io.BytesIO(pickle.dumps(boxes)), HERE).tolist() == [{"z_min": 1}, {"z_min": 2}]


class Command:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFormatError, match=r"x\.pickle wants to load .*mkdir"):
        load_pickle(io.BytesIO(pickle.dumps([Command()])), HERE)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_pickle_is_damaged():
    with pytest.raises(FileFormatError, match="damaged"):
        load_pickle(io.BytesIO(pickle.dumps(np.arange(100))[:60]), HERE)
