from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limnet.data.loading import ClipLoader
from limnet.data.shards import ShardDataset
from limnet.errors import FileFormatError, InputError, MissingFileError


def write(
    root: Path, stem: str, count: int, size: int = 16, length: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, length, size, size), dtype=np.uint8)
    mask = rng.random((count, length, size, size)) < 0.4
    np.save(root / f"{stem}_image.npy", image)
    np.save(root / f"{stem}_mask.npy", np.packbits(mask.reshape(count, length, -1), axis=-1))
    return image, mask


def loader(data: ShardDataset, batch_size: int, fixed: bool = False) -> ClipLoader:
    return ClipLoader(data, batch_size, len(data), fixed=fixed)


@pytest.mark.parametrize("size", [16, 15])
def test_round_trip(tmp_path: Path, size: int) -> None:
    parts = [write(tmp_path, f"d2_{i}", 4 + i, size, seed=i) for i in range(2)]
    write(tmp_path, "val2d_1", 2, size)
    data = ShardDataset(tmp_path, "d2_*")
    assert len(data) == 9
    image, mask = (np.concatenate([p[i] for p in parts]) for i in range(2))
    for index in range(9):
        sample = data.read(index)
        assert sample[0].dtype == sample[1].dtype == torch.uint8
        np.testing.assert_array_equal(sample[0].numpy(), image[index])
        np.testing.assert_array_equal(sample[1].numpy(), mask[index])
    batch = next(iter(loader(data, 2, fixed=True)))
    np.testing.assert_array_equal(batch[0].numpy(), image[[0, 1]])
    assert batch[1].shape == (2, 3, size, size)


def test_start_masks(tmp_path: Path) -> None:
    write(tmp_path, "d2_1", 3)
    _image, mask = write(tmp_path, "d2_2", 2, seed=1)
    start = np.roll(mask, 3, -1)
    np.save(tmp_path / "d2_2_start.npy", np.packbits(start.reshape(2, 3, -1), axis=-1))
    data = ShardDataset(tmp_path, "d2_*")
    assert not data.read(1)[2].any()  # the first shard has none
    np.testing.assert_array_equal(data.read(4)[1].numpy(), mask[1])
    np.testing.assert_array_equal(data.read(4)[2].numpy(), start[1])
    assert [part.shape for part in next(iter(loader(data, 5, fixed=True)))] == [(5, 3, 16, 16)] * 3
    assert len(ShardDataset(tmp_path, "d2_1").read(0)) == 2
    np.save(tmp_path / "d2_2_start.npy", np.zeros((1, 3, 32), np.uint8))
    with pytest.raises(FileFormatError, match="collect it again"):
        ShardDataset(tmp_path, "d2_*")


@pytest.mark.parametrize("index", [5, -1, 99])
def test_outside(tmp_path: Path, index: int) -> None:
    write(tmp_path, "a", 5)
    with pytest.raises(IndexError):
        ShardDataset(tmp_path)[0, index]


def test_clips_of_one_shape(tmp_path: Path) -> None:
    write(tmp_path, "d2_1", 3)
    np.save(tmp_path / "d2_2_image.npy", np.zeros((2, 2, 16, 16), np.uint8))
    np.save(tmp_path / "d2_2_mask.npy", np.zeros((2, 2, 32), np.uint8))
    with pytest.raises(FileFormatError, match=r"d2_2_image.npy has clips of shape \(2, 16, 16\)"):
        ShardDataset(tmp_path, "d2_*")
    assert len(ShardDataset(tmp_path, "d2_1")) == 3


def test_missing_and_mismatched_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="make_shards"):
        ShardDataset(tmp_path, "d2_*")
    write(tmp_path, "a", 5)
    (tmp_path / "a_mask.npy").unlink()
    with pytest.raises(MissingFileError, match="a_mask"):
        ShardDataset(tmp_path)
    np.save(tmp_path / "a_mask.npy", np.zeros((4, 3, 32), np.uint8))
    with pytest.raises(FileFormatError, match="draw the shard again"):
        ShardDataset(tmp_path)


def flat(batches: list) -> list[int]:
    return [k for batch in keys(batches) for k in batch]


def keys(batches: list) -> list[list[int]]:
    return [[int(i) for i in batch[0].flatten(1).long().sum(1)] for batch in batches]


def test_epochs_are_shuffled_alike_by_seed(tmp_path: Path) -> None:
    write(tmp_path, "a", 11)
    batches, again = (loader(ShardDataset(tmp_path, seed=4), 3) for _ in range(2))
    assert len(batches) == 3
    first, second = keys(list(batches)), keys(list(batches))
    assert [keys(list(again)), keys(list(again))] == [first, second]
    assert first != second
    assert keys(list(loader(ShardDataset(tmp_path, seed=5), 3))) != first
    drawn = [k for batch in first for k in batch]
    assert len(drawn) == len(set(drawn)) == 9  # nothing twice, the incomplete batch left out


def test_in_order_for_validation(tmp_path: Path) -> None:
    image, _ = write(tmp_path, "a", 11)
    held = loader(ShardDataset(tmp_path), 4, fixed=True)
    expected = image.reshape(11, -1).sum(1, dtype=np.int64).tolist()
    assert len(held) == 3
    for _ in range(2):
        batches = []
        for batch in held:
            batches.append(batch)
            if len(batches) == 2:
                break  # a validation cut short starts at the beginning all the same
        assert flat(batches) == expected[:8]
    assert flat(list(held)) == expected


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 7])
def test_goes_on_where_it_was(tmp_path: Path, stop: int) -> None:
    write(tmp_path, "a", 11)

    def endless(batches: ClipLoader):
        while True:
            yield from batches

    data = ShardDataset(tmp_path, seed=1)
    source = endless(loader(data, 3))
    unbroken = keys([next(source) for _ in range(10)])
    broken = loader(data, 3)
    source = endless(broken)
    start = keys([next(source) for _ in range(stop)])
    resumed = loader(data, 3)
    resumed.load_state_dict(broken.state_dict())
    source = endless(resumed)
    assert start + keys([next(source) for _ in range(10 - stop)]) == unbroken


def test_processes_share_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", 11)
    data = ShardDataset(tmp_path)
    seen: list[list[int]] = []
    for fixed, batches in ((False, [2, 2]), (True, [3, 3])):
        for rank in range(2):
            monkeypatch.setattr("limnet.data.loading.process_place", lambda rank=rank: (rank, 2))
            share = loader(data, 2, fixed)
            assert len(share) == batches[rank]
            seen.append(flat(list(share)))
    assert not set(seen[0]) & set(seen[1])
    assert len(seen[0]) == len(seen[1]) == 4
    assert len(set(seen[2]) | set(seen[3])) == 11
    for rank in (0, 11):  # also those that would have a clip
        monkeypatch.setattr("limnet.data.loading.process_place", lambda rank=rank: (rank, 12))
        with pytest.raises(InputError, match=r"11 validation sample.s. cannot be shared among 12 processes"):
            loader(data, 2, fixed=True)


@pytest.mark.parametrize("size", [0, 12])
def test_bad_batch_sizes(tmp_path: Path, size: int) -> None:
    write(tmp_path, "a", 11)
    with pytest.raises(InputError, match=f"batch_size is {size}" if not size else f"one batch of {size}"):
        loader(ShardDataset(tmp_path), size)
