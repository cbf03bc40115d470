from __future__ import annotations

from pathlib import Path

import pytest

from limnet.data.dataset import LabelledDataset
from limnet.data.module import CaseDataModule
from limnet.datasets.registry import (
    DATASETS,
    data_module_class,
    dataset_class,
    dataset_names,
    open_dataset,
)
from limnet.errors import InputError
from tests.helpers.fake_folders import write_folder


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_exists_and_describes_itself(name):
    found, module = dataset_class(name), data_module_class(name)
    assert issubclass(found, LabelledDataset)
    assert issubclass(module, CaseDataModule)
    assert module.dataset_class is found
    for text in (found.title, found.licence, found.access, found.layout):
        assert text.strip()
    assert found.splits[0] == "train"


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


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_labels_and_windows_are_documented(name):
    """The table of docs/datasets.md holds what the code says."""
    text = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |") and ".." in line), "")
    kind = dataset_class(name)
    labels = kind.__dict__.get("labels") or {}
    windows = [*kind.__dict__.get("windows", {}).values(), kind.__dict__.get("window")]
    assert all(f"{number} {label}" in row for number, label in labels.items())
    assert all(f"{low:g} .. {high:g}" in row for low, high in filter(None, windows))
