from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")

from limnet.data import loading
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
    assert not torch.equal(next(iter(data.val_dataloader()))[0], batches[0][0])


def test_every_process_gets_a_validation_batch(monkeypatch: pytest.MonkeyPatch):
    data = SyntheticDataModule(batch_size=1, size=32, length=6)
    alone = [image for image, _ in data.val_dataloader()]
    for rank in range(2):
        monkeypatch.setattr("limnet.datasets.synthetic.process_place", lambda rank=rank: (rank, 2))
        monkeypatch.setattr(loading, "process_place", lambda rank=rank: (rank, 2))
        found = [image for image, _ in data.val_dataloader()]
        assert [len(image) for image in found] == [1]
        assert torch.equal(found[0], alone[0]) == (rank == 0)


@pytest.mark.parametrize("arguments", [{"size": 16}, {"length": 0}, {"slices": 0}])
def test_bad_settings(arguments: dict):
    with pytest.raises(InputError):
        SyntheticDataset(**arguments)


def test_end_of_the_data():
    with pytest.raises(IndexError):
        SyntheticDataset(length=2, size=32)[2]
