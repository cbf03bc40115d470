"""Loaders on numbered samples: epochs, processes, workers, and going on where a training was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from limnet.data.loading import ClipLoader, ShuffledDataset
from limnet.errors import InputError

COUNT = 11


class Numbers(ShuffledDataset):
    """Sample i is the number i."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return COUNT

    def read(self, index: int) -> tuple[Tensor, ...]:
        return (torch.tensor(index),)


def loader(batch_size: int, fixed: bool = False, seed: int = 0, workers: int = 0) -> ClipLoader:
    return ClipLoader(Numbers(seed), batch_size, workers, fixed)


def drawn(batches: ClipLoader) -> list[list[int]]:
    return [batch.tolist() for (batch,) in batches]


def flat(batches: ClipLoader) -> list[int]:
    return [number for batch in drawn(batches) for number in batch]


def test_epochs_are_shuffled_alike_by_seed_whatever_the_workers() -> None:
    batches, again = loader(3, seed=4), loader(3, seed=4, workers=1)
    assert len(batches) == 3
    first, second = drawn(batches), drawn(batches)
    assert [drawn(again), drawn(again)] == [first, second]
    assert first != second
    assert drawn(loader(3, seed=5)) != first
    numbers = [number for batch in first for number in batch]
    assert len(numbers) == len(set(numbers)) == 9  # nothing twice, the incomplete batch left out


def test_in_order_for_validation() -> None:
    held = loader(4, fixed=True)
    assert len(held) == 3
    for _ in range(2):
        batches = iter(held)
        assert [next(batches)[0].tolist(), next(batches)[0].tolist()] == [[0, 1, 2, 3], [4, 5, 6, 7]]  # then cut short
    assert flat(held) == list(range(COUNT))


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 7])
def test_goes_on_where_it_was(stop: int) -> None:
    def some(batches: ClipLoader, number: int) -> list[list[int]]:
        def endless() -> Iterator[tuple[Tensor, ...]]:
            while True:
                yield from batches

        return [batch.tolist() for _, (batch,) in zip(range(number), endless(), strict=False)]

    unbroken = some(loader(3), 10)
    broken, resumed = loader(3), loader(3)
    start = some(broken, stop)
    resumed.load_state_dict(broken.state_dict())
    assert start + some(resumed, 10 - stop) == unbroken
    whole = loader(3)
    drawn(whole)
    assert whole.state_dict() == {"epoch": 1, "batch": 0}


def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, list[list[int]]] = {False: [], True: []}
    for rank in range(2):
        monkeypatch.setattr("limnet.data.loading.process_place", lambda rank=rank: (rank, 2))
        for fixed, batches in ((False, 2), (True, 3)):
            share = loader(2, fixed)
            assert len(share) == batches
            seen[fixed].append(flat(share))
    monkeypatch.undo()
    one, two = seen[False]
    assert [number for pair in zip(one, two, strict=True) for number in pair] == flat(loader(2))[:8]  # in turn
    assert sorted(seen[True][0] + seen[True][1]) == list(range(COUNT))


@pytest.mark.parametrize("rank", [0, 11])  # also those that would have a sample
def test_fewer_validation_samples_than_processes_end_alike(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limnet.data.loading.process_place", lambda: (rank, 12))
    with pytest.raises(InputError, match=r"11 validation sample.s. cannot be shared among 12 processes"):
        loader(2, fixed=True)


@pytest.mark.parametrize("size", [0, 12])
def test_bad_batch_sizes(size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size is {size}" if not size else f"one batch of {size}"):
        loader(size)


@pytest.mark.parametrize("index", [COUNT, -1, 99])
def test_outside(index: int) -> None:
    with pytest.raises(IndexError):
        Numbers()[0, index]
