"""Shards: clips drawn ahead of time and memory-mapped, so that training never waits for data.

Layout: `<stem>_image.npy` uint8 (N, T, S, S) and `<stem>_mask.npy` uint8 (N, T, ceil(S*S/8)), the masks packed eight
pixels a byte in C order. Any number of stems may lie in one folder; a glob pattern picks among them. A shard may have
`<stem>_start.npy` besides, laid out like the masks: the mask a user would begin from, as real rounds left it
(`recipes/quality.py collect --starts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from limnet.datasets.loading import process_place
from limnet.errors import FileFormatError, InputError, MissingFileError


class ShardDataset(Dataset[Any]):
    """Clips of several shards, one after the other.

    If any of them has start masks, every item has one; clips without have an empty one.

    Args:
        root: folder.
        pattern: glob for the stems, for example "d2_*".

    Raises:
        MissingFileError: no shard matches, or one has no masks.
        FileFormatError: images and masks of a shard do not belong together, or shards hold clips of other sizes.
    """

    def __init__(self, root: Path | str, pattern: str = "*"):
        paths = sorted(Path(root).glob(pattern + "_image.npy"))
        if not paths:
            raise MissingFileError(
                f"no shard {pattern}_image.npy in {root}; draw some first with recipes/make_shards.py"
            )
        self.images: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.starts: list[np.ndarray | None] = []
        for path in paths:
            partner = path.with_name(path.name.removesuffix("_image.npy") + "_mask.npy")
            if not partner.is_file():
                raise MissingFileError(f"{path} has no {partner.name} beside it; draw the shard again")
            image, mask = np.load(path, mmap_mode="r"), np.load(partner, mmap_mode="r")
            packed = (*image.shape[:2], -(-int(np.prod(image.shape[2:])) // 8))
            if image.ndim != 4 or mask.shape != packed or image.dtype != np.uint8 or mask.dtype != np.uint8:
                raise FileFormatError(
                    f"{path}: images {image.dtype} {image.shape}, masks {mask.dtype} {mask.shape}; expected uint8 "
                    "(N, T, S, S) with masks (N, T, S*S/8); draw the shard again"
                )
            if self.images and image.shape[1:] != self.images[0].shape[1:]:
                raise FileFormatError(
                    f"{path} has clips of shape {image.shape[1:]}, the shards before it {self.images[0].shape[1:]}; "
                    "train on one kind of shard at a time: a narrower pattern picks them"
                )
            self.images.append(image)
            self.masks.append(mask)
            start = path.with_name(path.name.removesuffix("_image.npy") + "_start.npy")
            self.starts.append(np.load(start, mmap_mode="r") if start.is_file() else None)
            if self.starts[-1] is not None and self.starts[-1].shape != packed:
                raise FileFormatError(f"{start} has shape {self.starts[-1].shape}, expected {packed}; collect it again")
        self.ends = np.cumsum([len(i) for i in self.images])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, ...]:
        """Image, mask and, where there are any, start mask, each uint8 (T, S, S); a list gives a leading batch axis."""
        if isinstance(index, list):
            return tuple(torch.stack(parts) for parts in zip(*(self[i] for i in index), strict=True))
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = int(np.searchsorted(self.ends, index, side="right"))
        row = index - (int(self.ends[shard - 1]) if shard else 0)
        image = np.array(self.images[shard][row])
        mask = _unpacked(self.masks[shard][row], image)
        if all(start is None for start in self.starts):
            return torch.from_numpy(image), mask
        start = self.starts[shard]
        return torch.from_numpy(image), mask, torch.zeros_like(mask) if start is None else _unpacked(start[row], image)

    def loader(self, batch_size: int, shuffle: bool = True, seed: int = 0) -> ShardLoader:
        """Batches drawn by the training process itself: reading is a memory copy.

        Args:
            batch_size: clips in a batch and process.
            shuffle: for training: another order every epoch, incomplete batches left out.
            seed: of the orders.
        """
        return ShardLoader(self, batch_size, shuffle, seed)


def _unpacked(packed: np.ndarray, image: np.ndarray) -> Tensor:
    """Bits of a clip's masks to uint8 in the shape of its image (T, S, S)."""
    pixels = image.shape[-2] * image.shape[-1]
    return torch.from_numpy(np.unpackbits(packed, axis=-1, count=pixels).reshape(image.shape))


class ShardLoader:
    """Iterable over batches that can go on where a checkpoint was made; every process takes its share.

    The order of an epoch depends on the seed and the epoch alone.

    Args:
        dataset: clips.
        batch_size: clips in a batch and process, at least 1.
        shuffle: see `ShardDataset.loader`.
        seed: of the orders.

    Raises:
        InputError: a batch size below 1, a shuffled batch larger than the data, or fewer clips than processes. Every
            process raises it.
    """

    def __init__(self, dataset: ShardDataset, batch_size: int, shuffle: bool = True, seed: int = 0):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.epoch, self.batch = 0, 0  # the batch that comes next
        world = process_place()[1]
        if not shuffle and len(dataset) < world:  # on every process alike, so that none waits for another
            raise InputError(f"{len(dataset)} clip(s) cannot be shared among {world} processes, each needs one")
        if not len(self):
            raise InputError(f"batch_size is {batch_size}, but there are only {len(dataset)} clips; take a smaller one")

    def __len__(self) -> int:
        """Batches in an epoch, for each process."""
        rank, world = process_place()
        if self.shuffle:
            return len(self.dataset) // world // self.batch_size
        return -(-len(range(rank, len(self.dataset), world)) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        rank, world = process_place()
        order = np.arange(len(self.dataset))
        first = 0
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
            first = self.batch
        order = order[rank::world]
        for batch in range(first, len(self)):
            last = batch + 1 == len(self)
            if self.shuffle:
                self.epoch, self.batch = self.epoch + last, 0 if last else batch + 1
            yield self.dataset[order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()]

    def state_dict(self) -> dict[str, int]:
        """Which batch comes next."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the batch a `state_dict` named."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
