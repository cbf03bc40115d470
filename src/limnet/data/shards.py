"""Shards: clips drawn ahead of time and memory-mapped, so that training never waits for data.

Layout: `<stem>_image.npy` uint8 (N, T, S, S) and `<stem>_mask.npy` uint8 (N, T, ceil(S*S/8)), the masks packed eight
pixels a byte in C order. Any number of stems may lie in one folder; a glob pattern picks among them. A shard may have
`<stem>_start.npy` besides, laid out like the masks: the mask a user would begin from, as real rounds left it
(`recipes/quality.py collect --starts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limnet.data.loading import ShuffledDataset
from limnet.errors import FileFormatError, MissingFileError
from limnet.image.io.atomic import atomic_write


class ShardDataset(ShuffledDataset):
    """Clips of the shards in a folder whose stems fit a glob (such as "d2_*"); each epoch in its own order, by `seed`.

    If any of them has start masks, every item has one; clips without have an empty one. Raises MissingFileError for no
    shard, or one without masks, and FileFormatError for images and masks that do not belong together, or clips of
    several sizes.
    """

    def __init__(self, root: Path | str, pattern: str = "*", seed: int = 0):
        self.seed = seed
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

    def read(self, index: int) -> tuple[Tensor, ...]:
        """Image, mask and, where there are any, start mask, each uint8 (T, S, S)."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        row = index - (int(self.ends[shard - 1]) if shard else 0)
        image = np.array(self.images[shard][row])
        mask = _unpacked(self.masks[shard][row], image)
        if all(start is None for start in self.starts):
            return torch.from_numpy(image), mask
        start = self.starts[shard]
        return torch.from_numpy(image), mask, torch.zeros_like(mask) if start is None else _unpacked(start[row], image)


def _unpacked(packed: np.ndarray, image: np.ndarray) -> Tensor:
    """Bits of a clip's masks to uint8 in the shape of its image (T, S, S)."""
    pixels = image.shape[-2] * image.shape[-1]
    return torch.from_numpy(np.unpackbits(packed, axis=-1, count=pixels).reshape(image.shape))


def write_shard(stem: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write STEM_mask.npy, STEM_start.npy if given, and STEM_image.npy, each in one go; the folder is made.

    `arrays` has "image" uint8 (N, T, S, S), "mask" and, if wanted, "start" packed (N, T, ceil(S * S / 8)).
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name in sorted(arrays, key=lambda name: name == "image"):  # it comes last: without it there is no shard
        target = stem.with_name(f"{stem.name}_{name}.npy")
        atomic_write(target, lambda path, array=arrays[name]: np.save(path, array))  # type: ignore[misc]
