"""No tool may hurt: Dice before and after every tool of the viewer, used on the error it is meant for.

    limnet bench tools --data ROOT --split val --out tools.json
    limnet bench tools --data ROOT --split val --out tools_new.json --against tools.json

Every object gets one click in its middle. Then each tool by itself corrects that mask, as a careful person would:

- "click +", "scribble +": on the largest piece that was missed, in the slice where it is largest; "lasso +", "box":
  round the object on that slice, "box 3-D" round all of it; "... across": on the sagittal plane through the piece.
- "click -", "scribble -", "lasso -": on the largest piece that is too much; "... across" on the sagittal plane
  through it; "click - same slice": on the largest such piece of the slice that was clicked first.

A tool is left out where its error has fewer than `LEAST` pixels on the slice. Which objects, and where the marks lie,
follows from the data and `--seed` alone: at most `--per-source` objects of each source (first word of the file's name),
each of another volume, cut to 12 slices beyond the object; no films, which have no planes across. The table gives the
mean gain of each tool with its standard error, and how many objects lost more than .02; with `--against` also the
paired difference to another version's file. It lies beside `--out` as .md and grows with every object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from limnet import InteractiveSegmenter
from limnet.datasets.open import OpenDataset
from limnet.environment import command_line, environment
from limnet.image.volume import Volume
from limnet.metrics import dice
from limnet.simulation.clicks import RobotUser

LEAST = 12
LEAST_VOXELS, MARGIN, MOST_SLICES, LOST = 300, 12, 96, 0.02
Mask = NDArray[np.bool_]


class Thing(NamedTuple):
    """One object in its volume."""

    source: str
    name: str
    volume: Volume
    truth: Mask


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing in the file; the table is renewed after every object and printed at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="folder with manifest.json; repeatable"
    )
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--per-source", type=int, default=4)
    parser.add_argument("--tools", nargs="+", help="only these (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="file of the version to compare with")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    kept: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"objects": {}}
    kept.update(command=command_line(), environment=environment())
    other = json.loads(args.against.read_text())["objects"] if args.against else None
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    for thing in things(args.data, args.split, args.per_source, args.seed):
        if thing.name not in kept["objects"]:
            kept["objects"][thing.name] = {"source": thing.source, **gains(segmenter, thing, args.tools)}
            args.out.write_text(json.dumps(kept, indent=1) + "\n")
            made = f"Made by `{kept['command']}`: {len(kept['objects'])} objects."
            args.out.with_suffix(".md").write_text(f"{made}\n\n{table(kept['objects'], other)}\n")
    print(table(kept["objects"], other))


def things(roots: Sequence[Path], split: str, count: int, seed: int) -> Iterator[Thing]:
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
        yield Thing(source, f"{case.name}, {case.labels.get(number, number)}", volume, labels[cut] == number)


def gains(segmenter: InteractiveSegmenter, thing: Thing, only: Sequence[str] | None) -> dict[str, list[float]]:
    """{tool: [Dice before, Dice after]} of the tools that have an error to correct."""
    case, truth = segmenter.open(thing.volume), thing.truth
    first = RobotUser(thing.volume.spacing).next_click(truth)
    assert first is not None
    mask = case.click(first.zyx)
    before = dice(mask, truth)
    missed, extra = truth & ~mask, mask & ~truth
    found = {}
    for name, use in tools(case, truth, missed, extra, first.zyx[0]).items():
        if only is None or name in only:
            found[name] = [round(before, 4), round(dice(use(), truth), 4)]
            case.undo()
    return found


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
    width = [(0, 0) if a == flat else (1, 1) for a in range(3)]
    inner = tuple(slice(None) if a == flat else slice(1, -1) for a in range(3))
    return ndimage.distance_transform_edt(np.pad(region, width), sampling=[1e6 if a == flat else 1 for a in range(3)])[
        inner
    ]


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
    points = np.argwhere(region)
    return tuple(map(int, points.min(0))), tuple(map(int, points.max(0)))


def table(objects: dict[str, Any], other: dict[str, Any] | None) -> str:
    """Markdown: a line for each tool."""
    lines = ["| tool | objects | before | gain | lost > .02 |" + (" against |" if other else "")]
    lines.append("|---|---:|---:|---:|---:|" + ("---:|" if other else ""))
    names = sorted({name for found in objects.values() for name in found} - {"source"})
    for name in names:
        rows = {key: found[name] for key, found in objects.items() if name in found}
        gain = [after - before for before, after in rows.values()]
        lost = sum(g < -LOST for g in gain)
        line = f"| {name} | {len(rows)} | {np.mean([b for b, _ in rows.values()]):.3f} | {told(gain)} | {lost} |"
        if other:
            pairs = [rows[key][1] - other[key][name][1] for key in rows if name in other.get(key, {})]
            line += f" {told(pairs)} ({len(pairs)}) |"
        lines.append(line)
    return "\n".join(lines)


def told(values: Sequence[float]) -> str:
    """Mean and standard error."""
    if not values:
        return "-"
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{np.mean(values):+.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()
