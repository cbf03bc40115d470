"""Train the quality network on a defect set made by real rounds of the pipeline without fusion.

    python recipes/quality.py collect --data ROOT --model limnet-tiny --out defects/train.npz --cases 60
    python recipes/quality.py collect --data ROOT --model limnet-tiny --out defects/held.npz --cases 12 --split val
    python recipes/quality.py collect --mix paper-quality --root kits19=PATH --root msd-lung=PATH \\
        --root msd-colon=PATH --model runs/baseline --truths --scope volume --smallest 1 --cases 400 \\
        --out defects/train.npz
    python recipes/quality.py train --defects defects/train.npz --held defects/held.npz --out runs/quality

`collect` lets the robot user correct random objects of labelled volumes and keeps, for every slice that a round
changed, the image, the mask before, the mask after, and the Dice of both; `--truths` adds pairs of the mask after and
the true one, `--corrupted` pairs of damaged true masks. `--split val` takes the patients held out, of whom training
sees nothing. `--starts shards/d2_50` keeps wrong masks as a shard for stage1.py and stage2.py, whose click network then
starts from them. docs/training.md explains.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.training.options import add_recipe_arguments, seed, settle, use_preset, whole

STARTS = 4  # wrong slices of every round that `--starts` keeps, besides the clicked one

if TYPE_CHECKING:
    from limnet.image.slice_view import SliceView
    from limnet.image.volume import Volume
    from limnet.quality.assessor import Prompted

Mask = NDArray[np.bool_]


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Options of this recipe, those of `train` with the defaults of the preset named in `argv`."""
    from limnet.datasets.mixes import MIXES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collector = commands.add_parser("collect", help="make a defect set")
    add = collector.add_argument
    add("--data", type=Path, help="folder with manifest.json")
    add("--weights", type=Path, help="how often groups of open files are drawn, such as limnet-tiny-data.json")
    add("--mix", choices=sorted(MIXES), help="in place of --data: weighted mix of data sets")
    add("--root", action="append", default=[], metavar="NAME=PATH", help="folder of a data set of the mix; repeatable")
    add("--model", default="limnet-tiny", help="zoo name or folder; its quality part is not used")
    add("--out", type=Path, required=True)
    split = "patients to draw from: val, those held out, for --held (default: train)"
    add("--split", choices=("train", "val"), default="train", help=split)
    add("--cases", type=int, default=60)
    add("--rounds", type=int, default=5)
    add("--smallest", type=int, default=300, help="least voxels of an object (default: 300)")
    add("--corrupted", type=int, default=0, help="pairs of damaged true masks to add for every case (default: 0)")
    add("--literal-pixels", action="store_true", help="damage by 10 to 30 pixels whatever the object's size")
    truths = "add a pair of the new and the true mask for every slice that a round leaves wrong, as the paper"
    add("--truths", action="store_true", help=truths)
    scope = "how rounds propagate; volume: the paper's method, everything else off (default: both scopes in turn)"
    add("--scope", choices=("both", "interval", "volume"), default="both", help=scope)
    add("--setting", action="append", default=[], metavar="NAME=VALUE", help="of the rounds, such as short_side=240")
    add("--starts", type=Path, metavar="STEM", help="also write a shard of wrong masks, for clicks to start from")
    add("--synthetic", type=float, default=0.0, help="share of cases on synthetic volumes (default: 0; not with --mix)")
    add("--minutes", type=float, default=1e9, help="stop after so many minutes")
    add("--seed", type=seed, default=0)
    add("--threads", type=whole(0), default=0)
    add("--device", default="cpu", help="where the model computes, such as cuda (default: cpu)")
    add("--smoke", action="store_true", help="two small synthetic volumes, two rounds")
    trainer = commands.add_parser("train", help="train on a defect set")
    add_recipe_arguments(trainer, "quality", "runs/quality")
    use_preset(trainer, "quality", argv)
    return parser


class DefectRows:
    """Rows of a defect set, in the order they were added.

    Args:
        size: side of the crops.

    Attributes:
        rows: image uint8 (S, S), previous bool (S, S), current bool (S, S), dice float32 (2,) and references uint8
            (7, S, S), 255 times what `reference_crops` gives, of every pair.
    """

    def __init__(self, size: int = 128) -> None:
        self.size = size
        names = ("image", "previous", "current", "dice", "references")
        self.rows: dict[str, list[NDArray[Any]]] = {name: [] for name in names}

    def __len__(self) -> int:
        return len(self.rows["dice"])

    def add(
        self,
        view: SliceView,
        index: int,
        previous: Mask,
        current: Mask,
        truth: Mask,
        prompted: Prompted | None = None,
    ) -> None:
        """Add a slice with the masks (H, W) before and after a round, and the truth; equal masks teach nothing.

        `prompted` is what the user said by then.
        """
        from limnet.quality.assessor import quality_crops, reference_crops

        if not (previous != current).any():
            return
        pair = [mask.astype(np.float32) for mask in (previous, current)]
        image, old, new = quality_crops(view, index, pair, size=self.size)
        self.rows["image"].append((image[0, 0].numpy() * 255).astype(np.uint8))
        self.rows["previous"].append(old[0, 0].numpy() > 0.5)
        self.rows["current"].append(new[0, 0].numpy() > 0.5)
        references = reference_crops(view, index, pair, prompted, size=self.size)
        self.rows["references"].append((references[0].numpy() * 255).round().astype(np.uint8))
        dice = [(2 * (mask & truth).sum() + 1) / (mask.sum() + truth.sum() + 1) for mask in (previous, current)]
        self.rows["dice"].append(np.array(dice, np.float32))

    def add_truth(
        self,
        view: SliceView,
        index: int,
        mask: Mask,
        truth: Mask,
        rng: np.random.Generator,
        prompted: Prompted | None = None,
    ) -> None:
        """Add a slice with a round's mask and the true one, which of them is the earlier one by the toss of a coin."""
        pair = (mask, truth) if rng.random() < 0.5 else (truth, mask)
        self.add(view, index, *pair, truth, prompted)

    def add_corrupted(
        self, view: SliceView, index: int, truth: Mask, rng: np.random.Generator, literal: bool = False
    ) -> None:
        """Add a slice with two masks that are the truth damaged in two of the paper's ways; one in ten stays whole."""
        from limnet.simulation.corruptions import corrupt

        if not truth.any() or truth.all():
            return
        pair = [
            truth if rng.random() < 0.1 else corrupt(truth, int(rng.integers(2**62)), literal=literal)[0]
            for _ in range(2)
        ]
        self.add(view, index, pair[0], pair[1], truth)

    def save(self, path: Path) -> float:
        """Write a compressed .npz; returns the share of pairs whose previous mask is the better one.

        Raises:
            InputError: there are no rows.
        """
        from limnet.errors import InputError
        from limnet.image.io.atomic import atomic_write

        if not len(self):
            raise InputError("no round has changed a slice; collect more cases, or of larger objects")
        arrays: dict[str, Any] = {name: np.stack(values) for name, values in self.rows.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda place: np.savez_compressed(place, **arrays))
        return float((arrays["dice"][:, 0] > arrays["dice"][:, 1]).mean())


class StartRows:
    """Rows of a shard with start masks (`limnet.data.shards`), in windows of `size` network pixels.

    Attributes:
        rows: image uint8 (S, S), truth bool (S, S) and start mask bool (S, S) of every slice.
    """

    def __init__(self, size: int = 160) -> None:
        self.size = size
        self.rows: dict[str, list[NDArray[Any]]] = {"image": [], "mask": [], "start": []}

    def __len__(self) -> int:
        return len(self.rows["image"])

    def add(self, view: SliceView, index: int, truth: Mask, before: Mask) -> None:
        """Add a slice in a window around both masks, bool (H, W); where they are equal there is nothing to learn."""
        from limnet.interaction.window import join, mask_box, window_around, window_pixels

        box = join(mask_box(truth), mask_box(before))
        if box is None or not (truth != before).any():
            return
        window = window_around(box, view.shape, view.spacing, self.size)
        pixels = window_pixels(view, index, window, 1)[0, 0].numpy()
        self.rows["image"].append((pixels * 255 + 0.5).astype(np.uint8))
        for name, mask in (("mask", truth), ("start", before)):
            self.rows[name].append(window.crop(mask.astype(np.float32), edge=False)[0, 0].numpy() > 0.5)

    def save(self, stem: Path) -> None:
        """Write STEM_image.npy, STEM_mask.npy and STEM_start.npy.

        Raises:
            InputError: there are no rows.
        """
        from limnet.data.shards import write_shard
        from limnet.errors import InputError

        if not len(self):
            raise InputError("no round has left a wrong mask; collect more cases")
        arrays = {name: np.stack(rows)[:, None] for name, rows in self.rows.items()}
        for name in ("mask", "start"):
            arrays[name] = np.packbits(arrays[name].reshape(len(self), 1, -1), axis=-1)
        write_shard(stem, arrays)


def smoke_defects(path: Path, seed: int, count: int = 16) -> Path:
    """Write a small defect set of damaged masks on synthetic slices."""
    from limnet.datasets.synthetic import SyntheticDataset
    from limnet.image.slice_view import SliceView
    from limnet.image.volume import Volume

    rows, rng = DefectRows(size=32), np.random.default_rng(seed)
    data = SyntheticDataset(100 * count, 48, seed)
    for number in range(len(data)):
        image, mask = (x.numpy() for x in data[number])
        rows.add_corrupted(SliceView(Volume.from_array(image), window=(0.0, 255.0)), 0, mask[0] > 0, rng)
        if len(rows) == count:
            break
    rows.save(path)
    return path


def collect(args: argparse.Namespace) -> None:
    """Run rounds without fusion and write every changed slice."""
    import torch
    from rich.progress import track

    from limnet import InteractiveSegmenter
    from limnet.quality.assessor import Prompted
    from limnet.settings import Settings, parse_settings
    from limnet.simulation.clicks import RobotUser

    if args.smoke:
        args.cases, args.rounds, args.corrupted = 2, 2, 4
    if args.threads:
        torch.set_num_threads(args.threads)
    segmenter = InteractiveSegmenter.from_pretrained(args.model, device=args.device, settings={"tau": 1.0})
    own = {**(Settings.paper().to_json() if args.scope == "volume" else {}), **parse_settings(args.setting)}
    found, start = DefectRows(), time.monotonic()
    starts = None if args.starts is None else StartRows()
    for number, (volume, target, rng) in enumerate(track(draw_targets(args), total=args.cases, description="rounds")):
        if time.monotonic() - start > args.minutes * 60:
            break
        scope = args.scope if args.scope != "both" else "interval" if rng.random() < 0.5 else "volume"
        case = segmenter.open(volume, settings={**own, "tau": 1.0, "scope": scope})
        robot = RobotUser(volume.spacing, off_centre=bool(rng.random() < 0.5), seed=args.seed, case=number)
        mask, view = None, case.view
        for turn in range(1, args.rounds + 1):
            click = robot.next_click(target, mask, turn)
            if click is None:
                break
            before, mask = mask, case.click(click.zyx, positive=click.positive)
            wrong = np.flatnonzero((mask != target).any((1, 2)) & mask.any((1, 2)))
            if before is None:  # the window of the object's first click, as in a case
                view = case.view.with_window(case.view.auto_window(click.zyx[0], click.zyx[1:]))
            elif starts is not None:
                starts.add(view, click.zyx[0], target[click.zyx[0]], before[click.zyx[0]])
            for index in rng.choice(wrong, min(len(wrong), STARTS), replace=False).tolist():
                if starts is not None:
                    starts.add(view, index, target[index], mask[index])
            earlier = np.zeros_like(mask) if before is None else before
            told = {index: mask[index].astype(np.float32) for index in case.prompted}
            prompted = Prompted(click.zyx[0], earlier[click.zyx[0]].astype(np.float32), told)
            for index in np.flatnonzero((earlier != mask).any((1, 2))).tolist():
                if index in case.prompted:
                    continue
                if before is not None:
                    found.add(view, index, before[index], mask[index], target[index], prompted)
                if args.truths:
                    found.add_truth(view, index, mask[index], target[index], rng, prompted)
        slices = np.flatnonzero(target.any((1, 2)))
        for number_of_slice in rng.choice(slices, args.corrupted).tolist():
            found.add_corrupted(view, number_of_slice, target[number_of_slice], rng, args.literal_pixels)
    if starts is not None:
        starts.save(args.starts)
    better = found.save(args.out)
    print(f"{len(found)} pairs, the mask before was better in {better:.0%}; written to {args.out}")


def draw_targets(args: argparse.Namespace) -> Iterator[tuple[Volume, np.ndarray, np.random.Generator]]:
    """Random objects of at least `--smallest` voxels of the volumes of --split, each with its own randomness."""
    from limnet.data.clips import Source
    from limnet.datasets.open import load_sources, read_weights
    from limnet.errors import InputError
    from limnet.image.volume import Volume
    from limnet.simulation.volumes import paint, synthetic_labels

    if args.mix is not None and not args.smoke:
        yield from draw_from_mix(args)
        return
    if args.smoke:
        sources = []
        for number in range(args.cases):
            rng = randomness(args, number)
            labels = synthetic_labels(rng, (10, 64, 64))
            sources.append(Source(labels, (2.0, 1.0, 1.0), paint(rng, labels)).with_ids(300))
    else:
        found = load_sources(args.data, args.split, read_weights(args.weights, args.split))
        sources = [s for s in found if s.image is not None and s.labels.shape[0] >= 8]
        if not sources:
            raise InputError(f"{args.data} has no volume of 8 or more labelled slices in split {args.split}")
    weights = np.array([s.weight for s in sources])
    weights /= weights.sum()
    for number in range(args.cases):
        rng = randomness(args, number)
        if args.synthetic and rng.random() < args.synthetic:
            labels = synthetic_labels(rng, (24, 128, 128))
            source = Source(labels, (float(rng.uniform(1, 4)), 1.0, 1.0), paint(rng, labels)).with_ids(args.smallest)
            if not len(source.ids):
                continue
        else:
            source = sources[int(rng.choice(len(sources), p=weights))]
        target = source.labels == int(rng.choice(source.ids))
        if target.sum() >= args.smallest:
            yield Volume.from_array(source.image, source.spacing), target, rng


def randomness(args: argparse.Namespace, number: int) -> np.random.Generator:
    """The draws of one case; synthetic volumes of the two splits differ, too."""
    return np.random.default_rng([args.seed, number, *([1] if args.split == "val" else [])])


def draw_from_mix(args: argparse.Namespace) -> Iterator[tuple[Volume, np.ndarray, np.random.Generator]]:
    """Random objects of the --split cases of data sets as their owners ship them, read when they are drawn."""
    from limnet.datasets.mixes import load_mix
    from limnet.errors import InputError
    from limnet.training.train import parse_roots

    found = [
        (d, weight) for d, weight in load_mix(args.mix, parse_roots(args.root), args.weights) if args.split in d.splits
    ]
    parts = [(cases, weight) for dataset, weight in found if (cases := dataset.cases(args.split))]
    if not parts:
        raise InputError(f"no data set of {args.mix} in {', '.join(args.root)} has cases in split {args.split}")
    weights = np.array([weight for _, weight in parts])
    for number in range(args.cases):
        rng = randomness(args, number)
        cases = parts[int(rng.choice(len(parts), p=weights / weights.sum()))][0]
        case = cases[int(rng.integers(len(cases)))]
        labels = np.asarray(case.read_labels())
        parts_of = [(i, *case.includes.get(i, ())) for i in np.unique(labels[labels > 0]).tolist()]
        masks = [mask for ids in parts_of if (mask := np.isin(labels, ids)).sum() >= args.smallest]
        if masks:
            yield case.read_image(), masks[int(rng.integers(len(masks)))], rng


def main(argv: Sequence[str] | None = None) -> None:
    """Collect or train."""
    from limnet.errors import LimnetError

    parser = build_parser(argv)
    args = parser.parse_args(argv)
    collecting = args.command == "collect"
    if collecting and (args.data is None) == (args.mix is None) and not args.smoke:
        parser.error("collect needs either --data, the folder with manifest.json, or --mix with --root NAME=PATH")
    try:
        if collecting:
            collect(args)
            return
        from limnet.training.train import train_parsed

        settle(args, "quality")
        if args.smoke:
            args.defects = args.held = [smoke_defects(args.out / "smoke.npz", args.seed)]
        train_parsed(args, "quality", parser.prog)
    except LimnetError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error


if __name__ == "__main__":
    main()
