"""What learning from finished cases brings: sessions of patients, replayed with and without it.

    limnet bench learning --data ROOT --set msd_hippocampus --known 1 3 7 15 --out results

A person finishes the cases of `known` patients (their true masks), learns the task, and meets further patients. For
each of those: Dice of the proposal, and after clicks of the simulated user with and without it; the mean number of
clicks to a Dice of .85 (6 clicks that do not reach it count as 7). One scan of each patient, in an order drawn by seed
0: the known ones are of the training split, the last `--tests` of `--split` are met. The model must not have been
trained on any of them.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core import analysis, tables
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import line_panels
from benchmarks.core.record import Record, Row
from benchmarks.core.rounds import Mask, Target, columns
from limnet import InteractiveSegmenter
from limnet.image.volume import Volume
from limnet.metrics.overlap import dice
from limnet.simulation.clicks import RobotClick, RobotUser

GOOD = 0.85
NAME, WITHOUT = "task", "without"


def patients(root: Path, group: str, label: int | None, split: str) -> list[Target]:
    """The object of each patient of a set, in an order drawn by seed 0."""
    first: dict[str, dict[str, Any]] = {}
    for entry in json.loads((root / "manifest.json").read_text())["volumes"]:
        if entry["set"] == group and entry["split"] == split:
            first.setdefault(entry["patient"], entry)
    names = sorted(first)
    found = []
    for number in np.random.default_rng(0).permutation(len(names)):
        entry = first[names[number]]
        with np.load(root / entry["file"]) as file:
            mask = file["label"] > 0 if label is None else file["label"] == label
            modality = "CT" if entry["modality"].startswith("CT") else None
            spacing = tuple(map(float, file["spacing"]))
            if mask.any():
                volume = Volume.from_array(file["image"], spacing, modality=modality)
                found.append(Target(names[number], str(label or "all"), group, volume, mask))
    return found


def measure(segmenter: InteractiveSegmenter, rounds: int, folder: Path | None, target: Target) -> Row:
    """A patient: Dice before the first click (0 without a proposal) and after each."""
    case, robot = segmenter.open(target.volume), RobotUser(target.volume.spacing)
    if folder is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.propose(NAME, folder=folder)
    start = case.mask

    def choose(mask: Mask | None, number: int) -> RobotClick | None:
        return robot.next_click(target.truth, start if mask is None else mask, number)

    turns = list(analysis.play_case(case, target.truth, rounds, choose=choose))
    found = columns(turns) if turns else {}
    return {**found, "dice": [round(float(dice(start, target.truth)), 4), *found.get("dice", ())]}


def clicks_to(scores: Sequence[float], rounds: int, good: float = GOOD) -> int:
    """Clicks until the Dice was reached, one more than there are rounds where it never is; the proposal takes none."""
    return next((number for number, score in enumerate(scores) if score >= good), rounds + 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Replay the patients, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "", suites=False)
    parser.add_argument("--set", required=True, help="set of the manifest")
    parser.add_argument("--label", type=int, help="label of the object; all of them together by default")
    parser.add_argument("--known", type=int, nargs="+", default=[1, 3, 7, 15], help="numbers of finished patients")
    parser.add_argument("--tests", type=int, default=8, help="patients that are met (default: 8)")
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity, "set": args.set, "label": args.label}
    record = analysis.record_of(parser, args, "learning", fixed, f"learning_{args.set}")
    people = patients(args.data, args.set, args.label, "train")
    met = (people if args.split == "train" else patients(args.data, args.set, args.label, args.split))[-args.tests :]
    known = [n for n in args.known if n <= len(people) - (args.tests if args.split == "train" else 0)]
    analysis.analyse_targets(
        record, ((target, {WITHOUT: partial(measure, segmenter, args.rounds, None)}) for target in met)
    )
    for number in known:
        variant = f"{number} known"
        if all(record.has(variant, target.case, target.object) for target in met):
            continue
        cases = []
        for target in people[:number]:
            case = segmenter.open(target.volume)
            case.set_mask(target.truth, frozen=False)
            cases.append(case)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            segmenter.learn(cases, NAME, folder=folder)
            print(f"{variant}: learned in {time.perf_counter() - begun:.0f} s", flush=True)
            after = partial(measure, segmenter, args.rounds, Path(folder))
            analysis.analyse_targets(record, ((target, {variant: after}) for target in met))
    report(record, Comparison.of(record, [WITHOUT, *(f"{n} known" for n in known)], args.rounds + 1))


def report(record: Record, found: Comparison) -> None:
    """Table, plot and summary: Dice of the proposal and after each click, clicks to a good mask."""
    lines, summary = [], found.curves()
    for variant in found.variants:
        clicks = float(np.mean([clicks_to(row["dice"], found.rounds - 1) for row in found.some(variant)]))
        summary[analysis.ALL][variant] = {"clicks": clicks}
        lines.append([variant, *found.curve(variant), f"{clicks:.1f}"])
    head = ["patients", "proposal", *(f"click {n}" for n in range(1, found.rounds)), f"clicks to {GOOD}"]
    page = f"## Mean Dice of {found.count()} patients of {record.fixed['set']}\n\n{tables.markdown(head, lines)}"
    line_panels(record.plot, f"Learning: {record.fixed['set']}", found.panels(), xlabel="clicks + 1")
    print(record.finish({"groups": summary}, page))
