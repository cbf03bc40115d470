from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")

from limnet.datasets.synthetic import SyntheticDataModule, SyntheticDataset
from limnet.errors import InputError


def test_samples_depend_on_seed_and_index_alone():
    data = SyntheticDataset(length=4, size=48, seed=5)
    image, mask = data[2]
    assert image.shape == mask.shape == (1, 48, 48)
    assert image.dtype == mask.dtype == torch.uint8
    assert set(mask.unique().tolist()) == {0, 1}
    again = SyntheticDataset(length=4, size=48, seed=5)[2]
    assert torch.equal(image, again[0])
    assert torch.equal(mask, again[1])
    assert not torch.equal(image, data[3][0])
    assert not torch.equal(image, SyntheticDataset(length=4, size=48, seed=6)[2][0])


def test_clips_of_several_slices():
    image, mask = SyntheticDataset(length=1, size=40, slices=3)[0]
    assert image.shape == mask.shape == (3, 40, 40)
    assert mask[0].any()


def test_module_gives_batches_and_keeps_validation_apart():
    data = SyntheticDataModule(batch_size=2, size=32, length=5)
    batches = list(data.train_dataloader())
    assert [b[0].shape for b in batches] == [(2, 1, 32, 32)] * 2
    assert dict(data.hparams) == {"batch_size": 2, "size": 32, "seed": 0, "length": 5, "slices": 1, "workers": 0}
    assert not torch.equal(next(iter(data.val_dataloader()))[0], batches[0][0])


@pytest.mark.parametrize("arguments", [{"size": 16}, {"length": 0}, {"slices": 0}])
def test_bad_settings(arguments: dict):
    with pytest.raises(InputError):
        SyntheticDataset(**arguments)


def test_end_of_the_data():
    with pytest.raises(IndexError):
        SyntheticDataset(length=2, size=32)[2]
