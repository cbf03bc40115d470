"""What a recipe trains on: shards, a mix of data sets, clips drawn while it runs, or synthetic slices."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning.pytorch import LightningDataModule

from limnet.datasets.shards import ShardDataset, ShardLoader
from limnet.errors import InputError


class ShardDataModule(LightningDataModule):
    """Shards for training and validation.

    Args:
        root: folder.
        pattern: glob of the training shards.
        validation: glob of the validation shards.
        batch_size: clips per process and step.
        validation_batch: the same in validation.
        seed: of the orders.
    """

    def __init__(
        self, root: Path, pattern: str, validation: str, batch_size: int, validation_batch: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.training, self.held = ShardDataset(root, pattern), ShardDataset(root, validation)
        self.batch_size, self.validation_batch, self.seed = batch_size, validation_batch, seed

    def train_dataloader(self) -> ShardLoader:
        """Clips in another order every epoch; the loader's state can be saved and restored."""
        return self.training.loader(self.batch_size, seed=self.seed)

    def val_dataloader(self) -> ShardLoader:
        """All clips in order."""
        return self.held.loader(self.validation_batch, shuffle=False)


def parse_roots(texts: list[str]) -> list[tuple[str, Path]]:
    """["kits19=/data/kits"] to [("kits19", Path("/data/kits"))].

    Raises:
        InputError: no "=".
    """
    pairs = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError(f"--root is {text!r}; give the data set and its folder, such as kits19=/data/kits19")
        pairs.append((name, Path(path)))
    return pairs


def drawn_size(args: argparse.Namespace) -> int:
    """Side in pixels of the windows that are trained on: of the shards, or --size.

    Raises:
        MissingFileError: no shards where they were said to be.
        FileFormatError: shards that cannot be used.
    """
    if args.shards is None or args.smoke or args.mix is not None or args.live is not None:
        return int(args.size)  # two kinds of data are refused by `make_data`
    return int(ShardDataset(args.shards, args.pattern).images[0].shape[-1])


def make_data(args: argparse.Namespace, task: str, processes: int) -> LightningDataModule:
    """Data module for the options of `add_data_arguments`.

    Args:
        args: parsed options.
        task: "interaction" or "propagation".
        processes: batches are shared among so many.

    Raises:
        InputError: no data, two kinds of it, or a batch that does not divide over the processes.
        MissingFileError: shards or a data set that are not where they were said to be.
    """
    if args.batch_size % processes:
        raise InputError(f"--batch-size {args.batch_size} does not divide over {processes} processes; change one")
    share = args.batch_size // processes
    clips = args.length if task == "propagation" else 1
    if args.smoke:
        from limnet.datasets.synthetic import SyntheticDataModule

        return SyntheticDataModule(share, args.size, args.seed, args.batch_size * args.steps, clips)
    if sum(given is not None for given in (args.shards, args.mix, args.live)) != 1:
        raise InputError("say what to train on: --shards FOLDER, --live FOLDER, or --mix NAME with --root NAME=PATH")
    if args.live is not None:
        from limnet.training.live_data import LiveDataModule

        return LiveDataModule(
            args.live, task, share, args.size, args.length, args.pool, args.workers, args.seed, weights=args.weights
        )
    if args.shards is not None:
        validation_batch = 40 if task == "interaction" else 16
        return ShardDataModule(args.shards, args.pattern, args.validation, share, validation_batch, args.seed)
    from limnet.datasets.base import CaseDataModule
    from limnet.datasets.mixes import MIXES, load_mix

    return CaseDataModule(
        load_mix(args.mix, parse_roots(args.root), args.weights),
        task=task,
        batch_size=share,
        samples_per_epoch=args.samples_per_epoch,
        size=args.size,
        length=args.length,
        workers=args.workers,
        seed=args.seed,
        cache_dir=args.cache,
        paint_probability=MIXES[args.mix].paint,
        val_samples=args.val_samples,
        whole_slices=args.whole_slices,
    )
