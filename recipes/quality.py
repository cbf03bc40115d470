"""Train the quality network on a defect set made by real rounds of the pipeline without fusion.

    python recipes/quality.py collect --data ROOT --model limnet-tiny --out defects/train.npz --cases 60
    python recipes/quality.py collect --data ROOT --model limnet-tiny --out defects/held.npz --cases 12 --seed 1
    python recipes/quality.py train --defects defects/train.npz --held defects/held.npz --out runs/quality

`collect` lets the robot user correct random objects of the training volumes and keeps, for every slice that a round
changed, the image, the mask before, the mask after, and the Dice of both. Cases of another seed are held out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from limnet.training.launch import add_trainer_arguments, trainer_kwargs


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect", help="make a defect set")
    collect.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    collect.add_argument(
        "--model", default="limnet-tiny", help="zoo name or model folder; its quality part is not used"
    )
    collect.add_argument("--out", type=Path, required=True)
    collect.add_argument("--cases", type=int, default=60)
    collect.add_argument("--rounds", type=int, default=5)
    collect.add_argument("--minutes", type=float, default=1e9, help="stop after so many minutes")
    collect.add_argument("--seed", type=int, default=0)
    collect.add_argument("--threads", type=int, default=0)
    train = commands.add_parser("train", help="train on a defect set")
    train.add_argument("--defects", type=Path, required=True)
    train.add_argument("--held", type=Path, required=True, help="defect set for validation")
    train.add_argument("--steps", type=int, default=1500)
    train.add_argument("--batch-size", type=int, default=32)
    train.add_argument("--learning-rate", type=float, default=1e-3)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=0)
    train.add_argument("--out", type=Path, default=Path("runs/quality"))
    add_trainer_arguments(train)
    return parser


def collect(args: argparse.Namespace) -> None:
    """Run rounds without fusion and write every changed slice."""
    import time

    import torch
    from rich.progress import track

    from limnet import InteractiveSegmenter
    from limnet.datasets.open import load_sources
    from limnet.quality.crops import quality_crops
    from limnet.simulation.clicks import RobotUser
    from limnet.volume_io.atomic import atomic_write

    if args.threads:
        torch.set_num_threads(args.threads)
    segmenter = InteractiveSegmenter.from_pretrained(args.model, settings={"tau": 1.0})
    sources = [s for s in load_sources(args.data) if s.image is not None and s.labels.shape[0] >= 8]
    weights = np.array([s.weight for s in sources])
    weights /= weights.sum()
    rows: dict[str, list[np.ndarray]] = {"image": [], "previous": [], "current": [], "dice": []}
    start = time.monotonic()
    for number in track(range(args.cases), description="rounds"):
        if time.monotonic() - start > args.minutes * 60:
            break
        rng = np.random.default_rng([args.seed, number])
        source = sources[int(rng.choice(len(sources), p=weights))]
        target = source.labels == int(rng.choice(source.ids))
        if target.sum() < 300:
            continue
        case = segmenter.open(source.image, spacing=source.spacing, settings={"tau": 1.0, "scope": _scope(rng)})
        robot = RobotUser(source.spacing, off_centre=bool(rng.random() < 0.5), seed=args.seed, case=number)
        mask = None
        for turn in range(1, args.rounds + 1):
            click = robot.next_click(target, mask, turn)
            if click is None:
                break
            before, mask = mask, case.click(click.zyx, positive=click.positive)
            if before is None:
                continue
            view = case.view.with_window(case.view.auto_window(click.zyx[0], click.zyx[1:]))
            for index in np.flatnonzero((before != mask).any((1, 2))):
                if index in case.prompted:
                    continue
                pair = [m[index].astype(np.float32) for m in (before, mask)]
                image, old, new = quality_crops(view, int(index), pair)
                rows["image"].append((image[0, 0].numpy() * 255).astype(np.uint8))
                rows["previous"].append(old[0, 0].numpy() > 0.5)
                rows["current"].append(new[0, 0].numpy() > 0.5)
                rows["dice"].append(np.array([_dice(m[index], target[index]) for m in (before, mask)], np.float32))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.stack(values) for name, values in rows.items()}
    atomic_write(args.out, lambda path: np.savez_compressed(path, **arrays))
    better = (arrays["dice"][:, 0] > arrays["dice"][:, 1]).mean()
    print(f"{len(arrays['dice'])} pairs, the mask before was better in {better:.0%}; written to {args.out}")


def _scope(rng: np.random.Generator) -> str:
    return "interval" if rng.random() < 0.5 else "volume"


def _dice(mask: np.ndarray, target: np.ndarray) -> float:
    return float((2 * (mask & target).sum() + 1) / (mask.sum() + target.sum() + 1))


def train(args: argparse.Namespace) -> None:
    """Train and write the averaged network."""
    import torch
    from lightning import Trainer, seed_everything
    from lightning.pytorch.loggers import CSVLogger
    from torch.utils.data import DataLoader, TensorDataset

    from limnet.quality.module import QualityModule
    from limnet.training.callbacks import ExportAverage

    if args.threads:
        torch.set_num_threads(args.threads)
    seed_everything(args.seed, workers=True, verbose=False)
    sets = []
    for path in (args.defects, args.held):
        with np.load(path) as data:
            names = ("image", "previous", "current", "dice")
            sets.append(TensorDataset(*(torch.from_numpy(data[n]) for n in names)))
    module = QualityModule(learning_rate=args.learning_rate, max_steps=args.steps, seed=args.seed)
    trainer = Trainer(
        **trainer_kwargs(args),
        max_steps=args.steps,
        logger=CSVLogger(args.out, name="", version=""),
        callbacks=[ExportAverage(args.out / "quality", every=250)],
        enable_checkpointing=False,
        gradient_clip_val=1.0,
        val_check_interval=250,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=25,
        enable_progress_bar=False,
    )
    loaders = [DataLoader(sets[0], args.batch_size, shuffle=True, drop_last=True), DataLoader(sets[1], 64)]
    trainer.fit(module, loaders[0], loaders[1])


def main(argv: Sequence[str] | None = None) -> None:
    """Collect or train."""
    args = build_parser().parse_args(argv)
    {"collect": collect, "train": train}[args.command](args)


if __name__ == "__main__":
    main()
