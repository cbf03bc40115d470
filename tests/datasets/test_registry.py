from __future__ import annotations

import pytest

from limnet.datasets.registry import (
    dataset_class,
    dataset_names,
    open_dataset,
)
from limnet.errors import InputError
from tests.helpers.fake_folders import write_folder


def test_names():
    assert {"folder", "nnunet", "decathlon", "open"} <= set(dataset_names())
    with pytest.raises(InputError, match=r"'foldr' is unknown; there are .*Did you mean folder"):
        dataset_class("foldr")


def test_open(tmp_path):
    assert len(open_dataset("folder", write_folder(tmp_path)).all_cases()) == 4
    assert len(open_dataset("folder", tmp_path, fraction=0.5).cases("val")) == 2
    with pytest.raises(
        InputError, match=r'folder cannot be opened with \{"share": 0.5\}; its options are fraction, seed'
    ):
        open_dataset("folder", tmp_path, share=0.5)
