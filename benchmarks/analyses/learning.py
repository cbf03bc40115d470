"""What learning from finished cases brings: sessions of patients, replayed with and without it.

    limnet bench learning --data ROOT --set msd_hippocampus --known 1 3 7 15 --out results/learning.json

A person finishes the cases of `known` patients (their true masks), learns the task, and meets further patients. For
each of those: Dice of the proposal, and after clicks of the robot user with and without it; the mean number of clicks
to a Dice of .85 (6 clicks that do not reach it count as 7). One scan of each patient, patients of the training split
in an order drawn by seed 0; the last `--tests` of them are met. The model must not have been trained on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet import InteractiveSegmenter
from limnet.image.volume import Volume
from limnet.metrics.overlap import dice
from limnet.simulation.clicks import RobotUser

GOOD = 0.85
NAME = "task"


def patients(root: Path, group: str, label: int | None) -> list[tuple[Volume, NDArray[np.bool_]]]:
    """A volume and the mask of its object for each patient of a set, in an order drawn by seed 0."""
    first: dict[str, dict[str, Any]] = {}
    for entry in json.loads((root / "manifest.json").read_text())["volumes"]:
        if entry["set"] == group and entry["split"] == "train":
            first.setdefault(entry["patient"], entry)
    chosen = [first[name] for name in sorted(first)]
    found = []
    for number in np.random.default_rng(0).permutation(len(chosen)):
        entry = chosen[number]
        with np.load(root / entry["file"]) as file:
            mask = file["label"] > 0 if label is None else file["label"] == label
            modality = "CT" if entry["modality"].startswith("CT") else None
            if mask.any():
                found.append(
                    (Volume.from_array(file["image"], tuple(map(float, file["spacing"])), modality=modality), mask)
                )
    return found


def play(
    segmenter: InteractiveSegmenter, volume: Volume, truth: NDArray[np.bool_], rounds: int, folder: Path | None
) -> list[float]:
    """Dice before the first click (0 without a proposal) and after each."""
    case, robot = segmenter.open(volume), RobotUser(volume.spacing)
    if folder is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.propose(NAME, folder=folder)
    scores = [dice(case.mask, truth)]
    for number in range(1, rounds + 1):
        click = robot.next_click(truth, case.mask, number)
        if click is not None:
            case.click(click.zyx, positive=click.positive)
        scores.append(dice(case.mask, truth))
    return [float(score) for score in scores]


def clicks_to(scores: Sequence[float], good: float = GOOD) -> int:
    """Clicks until the Dice was reached; the proposal takes none."""
    return next((number for number, score in enumerate(scores) if score >= good), len(scores))


def main(argv: Sequence[str] | None = None) -> None:
    """Replay, print a line for each number of known patients, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--set", required=True, help="set of the manifest")
    parser.add_argument("--label", type=int, help="label of the object; all of them together by default")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--known", type=int, nargs="+", default=[1, 3, 7, 15])
    parser.add_argument("--tests", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    people = patients(args.data, args.set, args.label)
    met = people[-args.tests :]
    without = [play(segmenter, volume, truth, args.rounds, None) for volume, truth in met]
    record = {"set": args.set, "model": args.model, "without": without, "with": {}, "seconds": {}}
    _tell("without", without)
    for known in args.known:
        if known > len(people) - args.tests:
            break
        cases = []
        for volume, truth in people[:known]:
            case = segmenter.open(volume)
            case.set_mask(truth, frozen=False)
            cases.append(case)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            adapter = segmenter.learn(cases, NAME, folder=folder)
            seconds = time.perf_counter() - begun
            played = [play(segmenter, volume, truth, args.rounds, Path(folder)) for volume, truth in met]
        record["with"][known], record["seconds"][known] = played, round(seconds, 1)
        _tell(f"{known:2d} known, fit {adapter.fit:.2f}, {seconds:3.0f} s", played)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


def _tell(title: str, played: list[list[float]]) -> None:
    mean = np.mean(played, 0)
    clicks = np.mean([clicks_to(scores) for scores in played])
    print(f"{title}: " + " ".join(f"{value:.3f}" for value in mean) + f"; clicks to {GOOD}: {clicks:.1f}", flush=True)


if __name__ == "__main__":
    main()
