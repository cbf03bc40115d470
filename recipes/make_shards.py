"""Draw training clips ahead of time, so that training never waits for data.

    python recipes/make_shards.py --data ROOT --out shards --kind d2 --count 10000 --shards 5
    python recipes/make_shards.py --data ROOT --out shards --kind clip --count 3000 --shards 3
    python recipes/make_shards.py --data ROOT --out shards --kind val2d --count 320 --split val

ROOT holds manifest.json (see `limnet.datasets.open`); several folders may be given. limnet-tiny draws with
`--weights recipes/limnet-tiny-data.json`. One slice per sample for `d2` and `val2d`, eight for `clip` and
`valclip`. Every shard depends only on --seed and its number.

With --tissues whole tissues are the targets: gray values of a labelled region in classes, where nobody has labelled the
tissues. Atlases of the brain name gyri and nuclei, but people click on white matter, too. On T1 images three classes of
gray values inside the brain are, to a good approximation, cerebrospinal fluid, grey and white matter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from limnet.data.clips import Source

KINDS = {"d2": (1, (0.08, 0.75)), "clip": (8, (0.12, 0.6)), "val2d": (1, (0.12, 0.6)), "valclip": (8, (0.15, 0.5))}
CLASSES = 3
_CLOSING = 5  # voxels: gaps between labels, such as white matter in an atlas of the cortex
_LABELLED = 0.2  # of the foreground: below it labels are single lesions, and the foreground is the region
_BIAS = 25.0  # voxels: standard deviation of the smoothing that takes out uneven illumination
_SAMPLES = 60_000
_ROUNDS = 80


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
    tissues = """draw whole tissues (three classes of gray values) of the files with these
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


def tissue_source(source: Source, classes: int = CLASSES) -> Source:
    """The same volume with gray classes in place of its labels, 1 for the darkest.

    Args:
        source: with an image and labels of a whole organ, or an image with nothing but the organ.
        classes: how many.

    Raises:
        InputError: a label map without image.
    """
    from limnet.errors import InputError

    if source.image is None:
        raise InputError(f"{source.name or 'a source'} has no image, so nothing tells its tissues apart")
    image = np.asarray(source.image, np.float32)
    low, high = np.percentile(image, (1, 99.5))
    shown = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    found = gray_classes(shown, _region(shown, source.labels), classes)
    return replace(source, labels=found, odds=(), boxes={}, includes={}).with_ids()


def gray_classes(image: NDArray[np.float32], inside: NDArray[np.bool_], classes: int = CLASSES) -> NDArray[np.uint8]:
    """Cluster the gray values of a region (k-means), after evening out slow changes of brightness.

    Args:
        image: (D, H, W) in [0, 1].
        inside: bool (D, H, W), not empty.
        classes: number of clusters, at least 2.

    Returns:
        (D, H, W): 0 outside, else 1 (darkest) to `classes`.

    Raises:
        InputError: an empty region or fewer than 2 classes.
    """
    from scipy import ndimage
    from scipy.cluster.vq import kmeans2

    from limnet.errors import InputError

    if classes < 2 or not inside.any():
        raise InputError(f"{classes} classes of {int(inside.sum())} voxels: give at least 2 classes and some voxels")
    within = inside.astype(np.float32)
    share = ndimage.gaussian_filter(within, _BIAS)
    local = ndimage.gaussian_filter(image * within, _BIAS) / np.maximum(share, 1e-3)
    even = ndimage.gaussian_filter(image, 0.5) / np.maximum(local, 1e-3)
    values = even[inside]
    values = np.random.default_rng(0).choice(values, min(len(values), _SAMPLES), replace=False)
    start = np.quantile(values, (np.arange(classes) + 0.5) / classes)
    centres = np.sort(kmeans2(values, start, iter=_ROUNDS, minit="matrix")[0])
    borders = (centres[1:] + centres[:-1]) / 2
    return np.where(inside, np.digitize(even, borders) + 1, 0).astype(np.uint8)


def part_of(target: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A round part of a mask or two: what a first click gives of a whole tissue, for the next one to go on from.

    One click on tissue may mean a small structure in it; only the next one, elsewhere on it, says that all is meant.

    Args:
        target: bool (H, W), not empty.
        rng: source of randomness.

    Returns:
        bool (H, W), a median of 15 % of the target; now and then a little beyond it.
    """
    from scipy import ndimage

    rows, columns = np.ogrid[tuple(slice(n) for n in target.shape)]
    places = np.argwhere(target)
    found = np.zeros_like(target)
    for _ in range(1 if rng.random() < 0.65 else 2):
        row, column = places[rng.integers(len(places))]
        radius = rng.uniform(0.1, 0.45) * np.sqrt(len(places)) + 4
        pieces, _ = ndimage.label(target & ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2))
        found |= pieces == pieces[row, column]
    if rng.random() < 0.3:
        return ndimage.binary_dilation(found, iterations=int(rng.integers(1, 3)))
    return found


def _region(image: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """The largest piece of what is labelled, gaps closed; of the foreground where labels cover little of it."""
    from scipy import ndimage

    foreground = image > 0.12  # noise in air stays below
    marked = np.pad(labels > 0, _CLOSING + 1)
    if marked.sum() >= _LABELLED * foreground.sum():
        region = ndimage.binary_closing(marked, iterations=_CLOSING)
    else:
        region = ndimage.binary_opening(np.pad(foreground, _CLOSING + 1), iterations=2)
    region = ndimage.binary_fill_holes(region)[(slice(_CLOSING + 1, -_CLOSING - 1),) * 3]
    pieces, count = ndimage.label(region)
    return pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax()) if count > 1 else region


if __name__ == "__main__":
    main()
