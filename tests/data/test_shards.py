from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limnet.data.loading import ClipLoader
from limnet.data.shards import ShardDataset
from limnet.errors import FileFormatError, MissingFileError


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
    return ClipLoader(data, batch_size, fixed=fixed)


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
