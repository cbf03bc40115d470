"""Old places of public names work for one release, with a warning that names the new one."""

from __future__ import annotations

from importlib import import_module

import pytest

pytest.importorskip("lightning")
pytest.importorskip("monai")


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("limnet.simulation.corruption", "corrupt", "limnet.simulation.corruptions"),
        ("limnet.simulation.corruption_batch", "corrupt_batch", "limnet.simulation.corruptions"),
        ("limnet.simulation.corruption_transforms", "CorruptMaskd", "limnet.simulation.transforms"),
        ("limnet.datasets.base", "CaseDataModule", "limnet.data.module"),
        ("limnet.datasets.base", "LabelledDataset", "limnet.data.dataset"),
    ],
)
def test_names_that_have_moved(old: str, name: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"^{old}\.{name} is {new}\.{name} now"):
        found = getattr(import_module(old), name)
    assert found is getattr(import_module(new), name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        import_module(old).Nothing  # noqa: B018
