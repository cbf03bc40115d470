"""Objects at the border of the image: Dice after every round, and paired differences between two versions of the code.

    limnet bench border --data ROOT --out border_new.json
    limnet bench border --data ROOT --out border_new.json --against border_old.json

Which objects, and where they are cut, follows from the data and `--seed` alone. Slices lie along axis 0; a volume is
cut to the slices of the object and three more on either side, at most 24. Kinds:

- "probe": a made-up disk or square 20 pixels wide, 0, 1, 2, 5 and 20 pixels from each border of a slice of 64 or 160
  pixels, with and without noise; one click on the slice, 0 or 2 pixels from the object's side that faces the border or
  in its middle.
- "touching": real objects that reach the border of their slices.
- "cut": real objects of the same volumes in a field of view that ends in their middle, a quarter into them, at their
  edge, and 2 or 5 pixels beyond.
- "away": the objects of "cut" in their whole slices.

The robot user makes the clicks. Real objects come from the manifest of the open volumes (images and labels).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core import study
from limnet import InteractiveSegmenter
from limnet.environment import command_line, environment
from limnet.image.volume import Volume
from limnet.metrics import dice

MOST_SLICES = 24
LEAST_VOXELS, LEAST_PIXELS = 300, 6
BEYOND = (-0.5, -0.25, 0.0, 2.0, 5.0)  # where the field of view ends: shares of the object, then pixels beyond it


class Scene(NamedTuple):
    """One object in a field of view."""

    kind: str
    name: str
    image: NDArray[np.generic]
    truth: NDArray[np.bool_]
    spacing: tuple[float, ...]
    click: tuple[int, int, int] | None = None  # the only one, on its slice; the robot's clicks without it


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing in the file, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--objects", type=int, default=16, help="real objects of each kind (default: 16)")
    parser.add_argument("--kinds", nargs="+", default=["probe", "touching", "cut", "away"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="file of the version to compare with")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    kept = json.loads(args.out.read_text()) if args.out.exists() else {"objects": {}}
    kept.update(command=command_line(), environment=environment())
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    for scene in scenes(args.data, args.split, args.objects, args.seed, args.kinds):
        key = f"{scene.kind}: {scene.name}"
        if key in kept["objects"]:
            continue
        case = study.open_case(segmenter, Volume.from_array(scene.image, scene.spacing))
        if scene.click is None:
            found = [turn.row.dice for turn in study.play(case, scene.truth, args.rounds)]
        else:
            index = scene.click[0]
            found = [dice(case.click(scene.click, propagate=False)[index], scene.truth[index])]
        kept["objects"][key] = [round(value, 4) for value in found]
        args.out.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(kept["objects"], json.loads(args.against.read_text())["objects"] if args.against else None))


def scenes(root: Path, split: str, count: int, seed: int, kinds: Sequence[str]) -> Iterator[Scene]:
    """All scenes of the kinds, in a fixed order."""
    if "probe" in kinds:
        yield from probes(seed)
    if {"touching", "cut", "away"} & set(kinds):
        for scene in real_scenes(root, split, count, seed):
            if scene.kind in kinds:
                yield scene


def probes(seed: int) -> Iterator[Scene]:
    """The made-up object at every border."""
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
        yield Scene("probe", name, image, truth, (2.0, 1.0, 1.0), (1, int(row), int(column)))


def real_scenes(root: Path, split: str, count: int, seed: int) -> Iterator[Scene]:
    """Objects that touch the border; others cut by it and, beside, in their whole slices."""
    manifest = json.loads((root / "manifest.json").read_text())["volumes"]
    files = [v["file"] for v in manifest if v["file"].startswith(f"{split}/") and v["kind"] == "volume"]
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
    for touches, things in found.items():
        rng = np.random.default_rng([seed, int(touches)])
        groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for index in rng.permutation(len(things)):
            groups[things[index][0]].append(things[index])
        dealt = [group[i] for i in range(count) for group in groups.values() if i < len(group)][:count]
        for file, number in dealt:
            with np.load(root / file) as arrays:
                image, truth = arrays["image"], arrays["label"] == number
                spacing = tuple(float(s) for s in arrays["spacing"])
            image, truth = _few_slices(image, truth)
            name = f"{file} {number}"
            if touches:
                yield Scene("touching", name, image, truth, spacing)
                continue
            yield Scene("away", name, image, truth, spacing)
            axis, low = int(rng.integers(1, 3)), bool(rng.integers(2))
            beyond = BEYOND[int(rng.integers(len(BEYOND)))]
            part = _field_of_view(truth, axis, low, beyond)
            if truth[part].sum() >= LEAST_VOXELS // 2:
                yield Scene("cut", f"{name}, axis {axis}, {beyond:+}", image[part], truth[part], spacing)


def _few_slices(image: NDArray[np.generic], truth: NDArray[np.bool_]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    areas = truth.sum((1, 2))
    middle, held = int(areas.argmax()), np.flatnonzero(areas)
    first = max(held[0] - 3, 0, middle - MOST_SLICES // 2)
    last = min(held[-1] + 4, len(truth), first + MOST_SLICES)
    return image[first:last], truth[first:last]


def _field_of_view(truth: NDArray[np.bool_], axis: int, low: bool, beyond: float) -> tuple[slice, ...]:
    """The part of a volume that ends at the object on one side."""
    held = np.flatnonzero(truth.any(tuple(a for a in range(3) if a != axis)))
    pixels = round(beyond * len(held)) if beyond < 0 else int(beyond)
    part = [slice(None)] * 3
    part[axis] = slice(max(int(held[0]) - pixels, 0), None) if low else slice(None, int(held[-1]) + 1 + pixels)
    return tuple(part)


def table(objects: dict[str, list[float]], others: dict[str, list[float]] | None) -> str:
    """Mean Dice by kind after 1, 3 and all rounds; with another version its difference and the standard error."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for key in objects:
        kind, _, name = key.partition(": ")
        kinds[f"probe, {name.split(',')[0]},{name.split(',')[-1]}" if kind == "probe" else kind].append(key)
    lines = []
    for kind, keys in kinds.items():
        keys = [key for key in keys if others is None or key in others]
        if not keys:
            continue
        cells = []
        for index in sorted({i for i in (0, 2, len(objects[keys[0]]) - 1) if i < len(objects[keys[0]])}):
            new = np.array([objects[key][index] for key in keys])
            cell = f"round {index + 1}: {new.mean():.3f}"
            if others is not None:
                gain = new - [others[key][index] for key in keys]
                error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
                cell += f" ({gain.mean():+.3f}, s.e. {error:.3f}, {(gain > 0).sum()} better, {(gain < 0).sum()} worse)"
            cells.append(cell)
        lines.append(f"{kind} ({len(keys)}): " + "; ".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
