"""Draw training clips ahead of time, so that training never waits for data.

    python recipes/make_shards.py --data ROOT --out shards --kind d2 --count 10000 --shards 5
    python recipes/make_shards.py --data ROOT --out shards --kind clip --count 3000 --shards 3
    python recipes/make_shards.py --data ROOT --out shards --kind val2d --count 320 --split val

ROOT holds manifest.json (see `limnet.datasets.open`); several folders may be given. limnet-tiny draws with
`--weights recipes/limnet-tiny-data.json`. One slice per sample for `d2` and `val2d`, eight for `clip` and
`valclip`. Every shard depends only on --seed and its number.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

KINDS = {"d2": (1, (0.08, 0.75)), "clip": (8, (0.12, 0.6)), "val2d": (1, (0.12, 0.6)), "valclip": (8, (0.15, 0.5))}


def build_parser() -> argparse.ArgumentParser:
    """Options of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="folders with manifest.json")
    add("--out", type=Path, required=True)
    add("--kind", choices=sorted(KINDS), default="d2")
    add("--split", choices=("train", "val"), default="train")
    add(
        "--weights",
        type=Path,
        help="how often groups of files are drawn, such as limnet-tiny-data.json (default: alike)",
    )
    add("--paint", type=float, default=0.3, help="share of images painted anew in train (default: .3)")
    add("--parts", type=float, default=0.2, help="share of split targets cut to one part (default: .2)")
    tissues = """draw whole tissues (three classes of gray values, see limnet.data.tissues) of the files with these
        words in their name, and of no others; each starts from a part of its target"""
    add("--tissues", nargs="+", metavar="NAME", help=tissues)
    add("--prefix", default="", help="name in front of the kind, to tell mixes apart")
    add("--count", type=int, default=10000, help="clips per shard (default: 10000)")
    add("--shards", type=int, default=1, help="number of shards (default: 1)")
    add("--first", type=int, default=1, help="number of the first shard (default: 1)")
    add("--size", type=int, default=160, help="side of the windows in network pixels (default: 160)")
    add("--synthetic", type=float, default=0.15, help="share of synthetic shapes in train (default: .15)")
    add("--seed", type=int, default=77)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and write; everything the user can mend ends in one line."""
    args = build_parser().parse_args(argv)
    from limnet.errors import LimnetError

    try:
        write_shards(args)
    except LimnetError as error:
        raise SystemExit(f"make_shards.py: {error}") from error


def write_shards(args: argparse.Namespace) -> None:
    """Write the shards; an interrupted shard leaves nothing behind.

    Raises:
        InputError: shares that are none, no image of the names given, or objects too small to be drawn.
        MissingFileError: no manifest.json in --data, or a file of it.
    """
    import torch
    from rich.progress import track

    from limnet.data.drawing import ClipDrawer
    from limnet.data.shards import write_shard
    from limnet.data.tissues import part_of, tissue_source
    from limnet.datasets.open import load_sources, read_weights
    from limnet.errors import InputError

    torch.set_num_threads(1)
    length, span = KINDS[args.kind]
    training = args.split == "train"
    sources = load_sources(args.data, args.split, read_weights(args.weights, args.split))
    if args.tissues:
        named = [s for s in sources if any(word in s.name for word in args.tissues) and s.image is not None]
        if not named:
            raise InputError(f"no image of --data has {' or '.join(args.tissues)} in its name")
        sources = [tissue_source(source) for source in named]
    paint, synthetic = (args.paint, args.synthetic) if training else (0.0, 0.0)
    for number in range(args.first, args.first + args.shards):
        rng = np.random.default_rng([args.seed, number, length])
        images = np.zeros((args.count, length, args.size, args.size), np.uint8)
        masks = np.zeros((args.count, length, args.size**2 // 8), np.uint8)
        starts = np.zeros_like(masks)
        drawer = ClipDrawer(sources, length, args.size, span, paint, args.parts, synthetic, stills=False)
        for row in track(range(args.count), description=f"{args.kind} shard {number}"):
            image, mask, _ = drawer.draw(rng)
            images[row], masks[row] = image, np.packbits(mask.reshape(length, -1), axis=1)
            if args.tissues:
                parts = [part_of(part, rng) if part.any() else part for part in mask]
                starts[row] = np.packbits(np.reshape(parts, (length, -1)), axis=1)
        arrays = {"mask": masks, **({"start": starts} if args.tissues else {}), "image": images}
        write_shard(args.out / f"{args.prefix}{args.kind}_{number}", arrays)


if __name__ == "__main__":
    main()
