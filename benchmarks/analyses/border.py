"""Objects at the border of the image: Dice after every round, and paired differences between two versions of the code.

    limnet bench border --data ROOT --out new
    limnet bench border --data ROOT --out new --against old/border.json

Which objects, and where they are cut, follows from the data and `--seed` alone. Slices lie along axis 0; a volume is
cut to the slices of the object and three more on either side, at most 24. Kinds:

- "probe": a made-up disk or square 20 pixels wide, 0, 1, 2, 5 and 20 pixels from each border of a slice of 64 or 160
  pixels, with and without noise; one click on the slice, 0 or 2 pixels from the object's side that faces the border or
  in its middle.
- "touching": real objects that reach the border of their slices (16).
- "cut": as many real objects of the same volumes in a field of view that ends in their middle, a quarter into them, at
  their edge, and 2 or 5 pixels beyond.
- "away": the objects of "cut" in their whole slices.

The simulated user makes the clicks. Real objects come from the manifest of the open volumes (images and labels).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core import analysis
from benchmarks.core.analysis import checkpoints, full
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown, mean_and_error
from benchmarks.core.rounds import Mask, Target, Voxel, columns
from limnet import InteractiveSegmenter
from limnet.datasets.open import read_manifest
from limnet.image.volume import Volume
from limnet.metrics import dice

MOST_SLICES, BESIDE = 24, 3
LEAST_VOXELS, LEAST_PIXELS = 300, 6
OBJECTS = 16  # real ones of each kind
BEYOND = (-0.5, -0.25, 0.0, 2.0, 5.0)  # where the field of view ends: shares of the object, then pixels beyond it

Scene = tuple[Target, Voxel | None]
"""One object in a field of view, and the only click on its slice; without it the simulated user clicks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then compare."""
    parser = analysis.parser_of(__doc__ or "", suites=False)
    parser.set_defaults(split="train")
    parser.add_argument("--against", type=Path, help="border.json of the version to compare with")
    args = parser.parse_args(argv)
    before = Record.read(args.against) if args.against else None
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    record = analysis.record_of(parser, args, "border", {"model": segmenter.identity})
    found = itertools.chain(probes(args.seed), real_scenes(args.data, args.split, args.seed))
    analysis.analyse_targets(
        record, ((target, {"limnet": partial(measure, segmenter, click, args.rounds)}) for target, click in found)
    )
    print(record.finish({}, table(record, before)))


def measure(segmenter: InteractiveSegmenter, click: Voxel | None, rounds: int, target: Target) -> Row:
    """One object: the simulated user's rounds, or the one click of the scene on its slice."""
    case = analysis.open_case(segmenter, target.volume)
    if click is None:
        return columns(analysis.play_case(case, target.truth, rounds))
    index = click[0]
    return {"dice": [round(dice(case.click(click, propagate=False)[index], target.truth[index]), 4)]}


def probes(seed: int) -> Iterator[Scene]:
    """The made-up object at every border; a group for each distance and depth of the click."""
    options = itertools.product((0, 1, 2, 5, 20), range(4), (64, 160), ("disk", "square"), (0.0, 8.0), (0, 2, 10))
    for distance, border, size, shape, noise, depth in options:
        rng = np.random.default_rng(seed)
        across, along = np.ogrid[:size, :size]
        beside = size // 2 + 3
        away, aside = np.abs(across - distance - 9.5), np.abs(along - beside - 0.5)
        inside = away**2 + aside**2 <= 10**2 if shape == "disk" else (away < 10) & (aside < 10)
        point = np.zeros_like(inside)
        point[distance + depth, beside] = True
        inside, point = (np.rot90(part, border) for part in (inside, point))
        truth = np.broadcast_to(inside, (3, size, size)).copy()
        image = 40.0 + 80.0 * truth + noise * rng.standard_normal(truth.shape)
        row, column = np.argwhere(point)[0]
        name = f"{distance} px, border {border}, {size}, {shape}, noise {noise:g}, click {depth} px in"
        group = f"probe, {distance} px, click {depth} px in"
        yield Target("probe", name, group, Volume.from_array(image, (2.0, 1.0, 1.0)), truth), (1, int(row), int(column))


def real_scenes(root: Path, split: str, seed: int) -> Iterator[Scene]:
    """Objects that touch the border; others in their whole slices and, beside, cut by it; in a fixed order."""
    files = [v["file"] for v in read_manifest(root) if v["file"].startswith(f"{split}/") and v["kind"] == "volume"]
    found: dict[bool, list[tuple[str, int]]] = {True: [], False: []}
    for file in files:
        with np.load(root / file) as arrays:
            label = arrays["label"]
        for number, box in enumerate(ndimage.find_objects(label.astype(np.int32)), 1):
            if box is None or (label[box] == number).sum() < LEAST_VOXELS:
                continue
            if min(b.stop - b.start for b in box[1:]) < LEAST_PIXELS:
                continue
            touches = any(b.start == 0 or b.stop == n for b, n in zip(box[1:], label.shape[1:], strict=True))
            found[touches].append((file, number))
    for touches, objects in found.items():
        rng = np.random.default_rng([seed, int(touches)])
        groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for index in rng.permutation(len(objects)):
            groups[objects[index][0]].append(objects[index])
        dealt = [group[i] for i in range(OBJECTS) for group in groups.values() if i < len(group)][:OBJECTS]
        for file, number in dealt:
            with np.load(root / file) as arrays:
                image, truth = arrays["image"], arrays["label"] == number
                spacing = tuple(float(s) for s in arrays["spacing"])
            few = _few_slices(truth)
            image, truth, name = image[few], truth[few], f"{file} {number}"
            yield _scene("touching" if touches else "away", name, image, truth, spacing)
            if not touches:
                axis, low = int(rng.integers(1, 3)), bool(rng.integers(2))
                beyond = BEYOND[int(rng.integers(len(BEYOND)))]
                part = _field_of_view(truth, axis, low, beyond)
                if truth[part].sum() >= LEAST_VOXELS // 2:
                    yield _scene("cut", f"{name}, axis {axis}, {beyond:+}", image[part], truth[part], spacing)


def _scene(kind: str, name: str, image: NDArray[np.generic], truth: Mask, spacing: Sequence[float]) -> Scene:
    return Target(kind, name, kind, Volume.from_array(image, spacing), truth), None


def _few_slices(truth: Mask) -> slice:
    """The slices of an object, and some beside."""
    areas = truth.sum((1, 2))
    middle, held = int(areas.argmax()), np.flatnonzero(areas)
    first = max(held[0] - BESIDE, 0, middle - MOST_SLICES // 2)
    return slice(first, min(held[-1] + BESIDE + 1, len(truth), first + MOST_SLICES))


def _field_of_view(truth: Mask, axis: int, low: bool, beyond: float) -> tuple[slice, ...]:
    """The part of a volume that ends at the object on one side."""
    held = np.flatnonzero(truth.any(tuple(a for a in range(3) if a != axis)))
    pixels = round(beyond * len(held)) if beyond < 0 else int(beyond)
    part = [slice(None)] * 3
    part[axis] = slice(max(int(held[0]) - pixels, 0), None) if low else slice(None, int(held[-1]) + 1 + pixels)
    return tuple(part)


def table(record: Record, other: Record | None) -> str:
    """Mean Dice by kind after 1, 3 and all rounds; with another version its difference and the standard error."""
    others = {(row["case"], row["object"]): row["dice"] for row in other.rows} if other else {}
    lines = []
    for group in dict.fromkeys(row["group"] for row in record.rows):
        rows = [r for r in record.rows if r["group"] == group and (not other or (r["case"], r["object"]) in others)]
        for number in checkpoints(max((len(row["dice"]) for row in rows), default=0)):
            new, old = (
                np.array([full(dice, number)[number - 1] for dice in some])
                for some in ([r["dice"] for r in rows], [others[r["case"], r["object"]] for r in rows if other])
            )
            line: list[object] = [group, len(rows), number, float(np.mean(new))]
            if other:
                gain = new - old
                line += [mean_and_error(gain.tolist()), int((gain > 0).sum()), int((gain < 0).sum())]
            lines.append(line)
    more = ["change", "better", "worse"] if other else []
    return markdown(["kind", "objects", "round", "Dice", *more], lines)
