"""No tool may hurt: Dice before and after every tool of the viewer, used on the error it is meant for.

    limnet bench tools --data ROOT --split val --out before
    limnet bench tools --data ROOT --split val --out now --against before/tools.json

Every object gets one click in its middle. Then each tool by itself corrects that mask, as a careful person would:

- "click +", "scribble +": on the largest piece that was missed, in the slice where it is largest; "lasso +", "box":
  round the object on that slice, "box 3-D" round all of it; "... across": on the sagittal plane through the piece.
- "click -", "scribble -", "lasso -": on the largest piece that is too much; "... across" on the sagittal plane
  through it; "click - same slice": on the largest such piece of the slice that was clicked first.

A tool is left out where its error has fewer than `LEAST` pixels on the slice. Which objects, and where the marks lie,
follows from the data and `--seed` alone: at most `--per-source` objects of each source (first word of the file's name),
each of another volume, cut to 12 slices beyond the object; no films, which have no planes across. The table gives the
mean gain of each tool with its standard error, and how many objects lost more than .02; with `--against` also the
paired difference to another version's file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core import analysis
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown, mean_and_error
from benchmarks.core.rounds import Target
from limnet import InteractiveSegmenter
from limnet.datasets.open import OpenDataset
from limnet.image.slices import depth_inside
from limnet.image.volume import Volume
from limnet.metrics import dice
from limnet.simulation.clicks import RobotUser

LEAST = 12
LEAST_VOXELS, MARGIN, MOST_SLICES, LOST = 300, 12, 96, 0.02
Mask = NDArray[np.bool_]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write the table."""
    parser = analysis.parser_of(__doc__ or "", rounds=0, suites=False, roots="+")
    parser.set_defaults(split="train", threads=1)
    parser.add_argument("--per-source", type=int, default=4, help="objects of each source at most (default: 4)")
    parser.add_argument("--against", type=Path, help="tools.json of the version to compare with")
    args = parser.parse_args(argv)
    before = Record.read(args.against).rows if args.against else None
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    record = analysis.record_of(parser, args, "tools", {"model": segmenter.identity})
    found = targets(args.data, args.split, args.per_source, args.seed)
    analysis.analyse_targets(record, ((t, {"tools": partial(gains, segmenter)}) for t in found))
    print(record.finish({}, table(record.rows, before)))


def targets(roots: Sequence[Path], split: str, count: int, seed: int) -> Iterator[Target]:
    """The objects, in a fixed order."""
    cases = [case for root in roots for case in OpenDataset(root).cases(split)]
    rng = np.random.default_rng(seed)
    taken: dict[str, int] = defaultdict(int)
    for case in (cases[i] for i in rng.permutation(len(cases))):
        source = case.name.split("_")[0]
        if taken[source] == count:
            continue
        labels = np.asarray(case.read_labels())
        numbers = [n for n in np.unique(labels[labels > 0]) if (labels == n).sum() >= LEAST_VOXELS]
        if labels.ndim != 3 or len(labels) < 5 or not numbers:
            continue
        number = int(rng.choice(numbers))
        there = np.flatnonzero((labels == number).any((1, 2)))
        cut = slice(max(0, there[0] - MARGIN), there[-1] + 1 + MARGIN)
        if len(there) < 3 or cut.stop - cut.start > MOST_SLICES:
            continue
        image = case.read_image()
        if image.is_color:
            continue
        taken[source] += 1
        volume = Volume.from_array(image.array[cut], image.spacing, modality=image.modality)
        yield Target(case.name, str(case.labels.get(number, number)), source, volume, labels[cut] == number)


def gains(segmenter: InteractiveSegmenter, target: Target) -> Row:
    """Dice after the first click, and "tools": {tool: Dice after it} of those that have an error to correct."""
    case, truth = segmenter.open(target.volume), target.truth
    first = RobotUser(target.volume.spacing).next_click(truth)
    assert first is not None
    mask = case.click(first.zyx)
    before = round(dice(mask, truth), 4)
    missed, extra = truth & ~mask, mask & ~truth
    found = {}
    for name, use in tools(case, truth, missed, extra, first.zyx[0]).items():
        found[name] = round(dice(use(), truth), 4)
        case.undo()
    return {"dice": [before], "tools": found}


def tools(case: Any, truth: Mask, missed: Mask, extra: Mask, clicked: int) -> dict[str, Callable[[], Mask]]:
    """What a person would do, by the name of the tool."""
    uses: dict[str, Callable[[], Mask]] = {}
    for sign, error in (("+", missed), ("-", extra)):
        positive = sign == "+"
        piece = largest(error)
        if piece is None:
            continue
        index = int(piece.sum((1, 2)).argmax())
        flat = within(piece, 0, index)
        if (region := largest(flat)) is not None and region.sum() >= LEAST:
            point = deepest(region)
            uses[f"click {sign}"] = partial(case.click, point, positive=positive)
            uses[f"scribble {sign}"] = partial(case.scribble, stroke(region), positive=positive)
            if positive:
                whole = within(truth, 0, index)
                uses["lasso +"] = partial(case.lasso, outline(largest(whole), 0))
                uses["box"] = partial(case.box, *corners(whole))
                uses["box 3-D"] = partial(case.box, *corners(truth))
            else:
                uses["lasso -"] = partial(case.lasso, outline(region, 0), positive=False)
            column = point[2]
            cut = largest(within(piece, 2, column))
            if cut is not None and cut.sum() >= LEAST and cut.any((1, 2)).sum() > 1:
                uses[f"scribble {sign} across"] = partial(case.scribble, stroke(cut), positive=positive)
                if positive:
                    uses["box across"] = partial(case.box, *corners(within(truth, 2, column)))
                else:
                    uses["lasso - across"] = partial(case.lasso, outline(cut, 2), positive=False)
    region = largest(within(extra, 0, clicked))
    if region is not None and region.sum() >= LEAST:
        uses["click - same slice"] = partial(case.click, deepest(region), positive=False)
    return uses


def within(mask: Mask, axis: int, index: int) -> Mask:
    """The part of a mask on one plane."""
    result = np.zeros_like(mask)
    plane = tuple(index if a == axis else slice(None) for a in range(3))
    result[plane] = mask[plane]
    return result


def largest(mask: Mask) -> Mask | None:
    """The largest 26-connected piece, None of an empty mask."""
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1 if count else None


def depth_of(region: Mask) -> NDArray[np.float64]:
    """Distance of every voxel of a flat region to its edge within its plane."""
    flat = next(a for a in range(3) if np.ptp(np.argwhere(region)[:, a]) == 0)
    return depth_inside(region, [1e6 if a == flat else 1 for a in range(3)])


def deepest(region: Mask) -> tuple[int, int, int]:
    """The voxel of a flat region farthest from its edge."""
    z, y, x = np.unravel_index(int(depth_of(region).argmax()), region.shape)
    return int(z), int(y), int(x)


def stroke(region: Mask) -> Mask:
    """A line through a flat region: its longer way, inside, by way of its deepest voxel."""
    depth = depth_of(region)
    inner = np.argwhere(depth >= depth.max() / 2)
    middle = np.array(deepest(region))
    one = inner[((inner - middle) ** 2).sum(1).argmax()]
    other = inner[((inner - one) ** 2).sum(1).argmax()]
    line = np.zeros_like(region)
    for a, b in ((one, middle), (middle, other)):
        steps = np.linspace(a, b, int(np.abs(b - a).max()) + 1).round().astype(int)
        line[tuple(steps.T)] = True
    return line & region


def outline(region: Mask | None, axis: int) -> list[tuple[int, ...]]:
    """A closed line round a flat region: both of its ends in every row."""
    points = np.argwhere(region) if region is not None else np.empty((0, 3), int)
    row = next(a for a in range(3) if a != axis)
    ends = [rows[[0, -1]] for r in np.unique(points[:, row]) if len(rows := points[points[:, row] == r])]
    ring = [e[0] for e in ends] + [e[1] for e in reversed(ends)]
    return [tuple(map(int, p)) for p in ring]


def corners(region: Mask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Corners of the box round a region, inclusive."""
    (box,) = ndimage.find_objects(region.astype(np.uint8))
    return tuple(end.start for end in box), tuple(end.stop - 1 for end in box)


def table(rows: Sequence[Row], others: Sequence[Row] | None) -> str:
    """Markdown: a line for each tool."""
    before: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in others or ():
        before[row["case"], row["object"]] |= row["tools"]
    lines: list[list[object]] = []
    for name in sorted({name for row in rows for name in row["tools"]}):
        some = [row for row in rows if name in row["tools"]]
        gain = [row["tools"][name] - row["dice"][0] for row in some]
        start = float(np.mean([row["dice"][0] for row in some]))
        lines.append([name, len(some), start, mean_and_error(gain), sum(g < -LOST for g in gain)])
        if others is not None:
            pairs = [(row["tools"][name], before[row["case"], row["object"]].get(name)) for row in some]
            known = [now - then for now, then in pairs if then is not None]
            lines[-1].append(f"{mean_and_error(known)} ({len(known)})")
    head = ["tool", "objects", "before", "gain", f"lost > {LOST:g}"]
    return markdown([*head, *(["against"] if others is not None else [])], lines)
