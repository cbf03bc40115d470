from __future__ import annotations

import pytest

from limnet.datasets.base import CaseDataModule, LabelledDataset
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
