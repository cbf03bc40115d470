"""What learning from finished cases brings: sessions of patients, replayed with and without it.

    limnet bench learning --data ROOT --set msd_hippocampus --known 1 3 7 15 --out results

A person finishes the cases of `known` patients (their true masks), learns the task, and meets further patients. For
each of those: Dice of the proposal, and after clicks of the simulated user with and without it; the mean number of
clicks to a Dice of .85 (6 clicks that do not reach it count as 7). One scan of each patient, all of one modality, in an
order drawn by seed 0: the known ones are of the training split, the last `--tests` of `--split` are met. The model must
not have been trained on those that are met.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.core import analysis
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import line_panels
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown
from benchmarks.core.rounds import Mask, Target, columns
from limnet import InteractiveSegmenter
from limnet.data.dataset import MODALITIES, LabelledCase
from limnet.datasets.open import OpenDataset
from limnet.errors import InputError
from limnet.metrics.interaction import clicks_to_quality
from limnet.metrics.masks import dice
from limnet.simulation.clicks import RobotClick, RobotUser

GOOD = 0.85
POOR = 0.5  # Dice of a proposal that is mostly something else, as anybody sees
NAME, WITHOUT = "task", "without"


def patients(root: Path, group: str, label: int | None, split: str, modality: str | None = None) -> list[Target]:
    """The object of each patient of a set, in an order drawn by seed 0; the first scan of those with several.

    Raises:
        InputError: no scans; or scans of several modalities, and none was chosen: nobody would learn a task from them
            together.
    """
    cases = [c for c in OpenDataset(root, groups=(f"/{group}/",)).cases(split) if modality in (None, c.modality)]
    if not cases:
        there = ", ".join(sorted(path.name for path in Path(root, split).glob("*") if path.is_dir())) or "none"
        kind = "scans" if modality is None else f"{modality} scans"
        raise InputError(f"{split} of {root} has no {kind} of a set {group!r}: give --set one of its folders ({there})")
    if len(found := sorted({case.modality for case in cases})) > 1:
        raise InputError(f"{group} has scans of several modalities ({', '.join(found)}): choose one by --modality")
    first: dict[str, LabelledCase] = {}
    for case in cases:
        first.setdefault(case.patient, case)
    names = sorted(first)
    targets = []
    for number in np.random.default_rng(0).permutation(len(names)):
        case = first[names[number]]
        labels = case.read_labels()
        mask = labels > 0 if label is None else labels == label
        if mask.any():
            targets.append(Target(case.patient, str(label or "all"), group, case.read_image(), mask))
    return targets


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


def main(argv: Sequence[str] | None = None) -> None:
    """Replay the patients, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "", suites=False)
    parser.add_argument("--set", required=True, help="folder of the set below train/ and val/")
    parser.add_argument("--label", type=int, help="label of the object; all of them together by default")
    parser.add_argument("--modality", choices=MODALITIES, help="of the scans, where the set has several")
    parser.add_argument("--known", type=int, nargs="+", default=[1, 3, 7, 15], help="numbers of finished patients")
    parser.add_argument("--tests", type=int, default=8, help="patients that are met (default: 8)")
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity, "set": args.set, "label": args.label}
    if args.modality:
        fixed["modality"] = args.modality
    name = "_".join(["learning", args.set, *([args.modality] if args.modality else [])])
    record = analysis.record_of(parser, args, "learning", fixed, name)
    people, others = (patients(args.data, args.set, args.label, s, args.modality) for s in ("train", args.split))
    met = others[-args.tests :]
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
    without = {row["case"]: row for row in found.some(WITHOUT)}
    for variant in found.variants:
        rows = found.some(variant)
        kept = [row if row["dice"][0] >= POOR else without[row["case"]] for row in rows]
        shown = [(variant, rows)] if kept == rows else [(variant, rows), (f"{variant}, poor ones taken back", kept)]
        for name, some in shown:
            curve = analysis.mean_curve([row["dice"] for row in some], found.rounds)
            # The proposal takes none, and what never gets there one more than there are.
            clicks = float(np.mean([clicks_to_quality(row["dice"], GOOD, found.rounds + 1) - 1 for row in some]))
            summary[analysis.ALL][name] = {"clicks": clicks}
            lines.append([name, *curve, f"{clicks:.1f}"])
    head = ["patients", "proposal", *(f"click {n}" for n in range(1, found.rounds)), f"clicks to {GOOD}"]
    page = f"## Mean Dice of {found.count()} patients of {record.fixed['set']}\n\n{markdown(head, lines)}"
    if len(lines) > len(found.variants):
        page += (
            f"\nTaken back: by a person who sees that the proposal (Dice below {POOR}) is not the object, and clicks.\n"
        )
    line_panels(record.plot, f"Learning: {record.fixed['set']}", found.panels(), xlabel="clicks + 1")
    print(record.finish({"groups": summary}, page))
