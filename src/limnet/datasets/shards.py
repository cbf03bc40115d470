"""Shards: clips drawn ahead of time and memory-mapped, so that training never waits for data.

Layout: `<stem>_image.npy` uint8 (N, T, S, S) and `<stem>_mask.npy` uint8 (N, T, S*S/8), the masks packed eight pixels a
byte in C order. Any number of stems may lie in one folder; a glob pattern picks among them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from limnet.errors import MissingFileError


class ShardDataset(Dataset):
    """Clips of several shards, one after the other.

    Args:
        root: folder.
        pattern: glob for the stems, for example "d2_*".

    Raises:
        MissingFileError: no shard matches.
    """

    def __init__(self, root: Path | str, pattern: str = "*"):
        paths = sorted(Path(root).glob(pattern + "_image.npy"))
        if not paths:
            raise MissingFileError(
                f"no shard {pattern}_image.npy in {root}; draw some first with recipes/make_shards.py"
            )
        self.images = [np.load(p, mmap_mode="r") for p in paths]
        self.masks = [np.load(str(p).replace("_image.npy", "_mask.npy"), mmap_mode="r") for p in paths]
        self.ends = np.cumsum([len(i) for i in self.images])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, Tensor]:
        """Image uint8 (T, S, S) and mask uint8 of the same shape; a list of indices gives a leading batch axis."""
        if isinstance(index, list):
            items = [self[i] for i in index]
            return torch.stack([i[0] for i in items]), torch.stack([i[1] for i in items])
        shard = int(np.searchsorted(self.ends, index, side="right"))
        row = index - (int(self.ends[shard - 1]) if shard else 0)
        image = np.array(self.images[shard][row])
        mask = np.unpackbits(self.masks[shard][row], axis=-1).reshape(image.shape)
        return torch.from_numpy(image), torch.from_numpy(mask)

    def loader(self, batch_size: int, shuffle: bool = True, seed: int = 0) -> DataLoader:
        """Batches drawn by one process: reading is a memory copy."""
        generator = torch.Generator().manual_seed(seed)
        order = RandomSampler(self, generator=generator) if shuffle else SequentialSampler(self)
        return DataLoader(self, batch_size=None, sampler=BatchSampler(order, batch_size, drop_last=shuffle))
