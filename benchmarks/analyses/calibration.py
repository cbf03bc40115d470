"""Is `case.quality` true? Predicted quality of every slice against its Dice.

    limnet bench calibration --data ROOT --out benchmarks/results --model limnet-tiny

After every round of the robot, for every slice that was not prompted and on which mask or truth lie: the quality limnet
gives and the Dice it has. ECE is the mean distance of both over ten equal bins of predicted quality, weighted by the
number of slices; Spearman's correlation says whether the order is right, which is what `case.suggest()` lives on (over
all slices, and within one object after one round, averaged).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.core import analysis
from benchmarks.core.pictures import FAINT, INK, colour_of, new_figure, plain, save_figure
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown
from benchmarks.core.rounds import Target, columns
from limnet.segmenter import InteractiveSegmenter

BINS = 10
FEWEST = 5  # slices from which on a correlation within one object is counted


class Bin(NamedTuple):
    """One bin of predicted quality: number of slices, mean prediction and mean Dice (NaN without slices)."""

    slices: int
    predicted: float
    true: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "")
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity, "settings": segmenter.settings.to_json()}
    record = analysis.record_of(parser, args, "calibration", fixed)
    analysis.analyse(record, args, {"quality": partial(measure, segmenter, args.rounds)})
    report(record)


def measure(segmenter: InteractiveSegmenter, rounds: int, target: Target) -> Row:
    """One object: per round the predicted quality and the Dice of its slices."""
    case = analysis.open_case(segmenter, target.volume)
    turns, predicted, true, empty = [], [], [], []
    for turn in analysis.play_case(case, target.truth, rounds):
        turns.append(turn)
        actual = analysis.dice_by_slice(turn.mask, target.truth)
        actual[list(case.prompted)] = np.nan
        used = np.flatnonzero(np.isfinite(actual))
        predicted.append([round(float(q), 4) for q in case.quality[used]])
        true.append([round(float(d), 4) for d in actual[used]])
        empty.append([int(not turn.mask[i].any()) for i in used])
    return {**columns(turns), "predicted": predicted, "true": true, "empty": empty}


def reliability(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> list[Bin]:
    """Equal bins of predicted quality; the last one holds 1."""
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    chosen = [place == k for k in range(BINS)]
    return [
        Bin(int(here.sum()), *(float(v[here].mean()) if here.any() else float("nan") for v in (predicted, true)))
        for here in chosen
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """ECE: mean distance of prediction and truth over the bins, weighted by their slices."""
    total = sum(b.slices for b in bins)
    return sum(b.slices * abs(b.predicted - b.true) for b in bins if b.slices) / total if total else float("nan")


def spearman(first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]) -> float:
    """Rank correlation; NaN where one side is constant or there are fewer than `FEWEST` pairs."""
    if len(first) < FEWEST or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def judged(rows: Sequence[Row], filled: bool = False) -> dict[str, Any]:
    """Calibration over rows; `filled` leaves out slices with an empty mask."""
    blocks = [
        np.array([(q, d) for q, d, e in zip(*block, strict=True) if not (filled and e)]).reshape(-1, 2)
        for row in rows
        for block in zip(row["predicted"], row["true"], row["empty"], strict=True)
    ]
    predicted, true = np.concatenate(blocks).T if blocks else np.zeros((2, 0))
    within = [s for block in blocks if np.isfinite(s := spearman(*block.T))]
    bins = reliability(predicted, true)
    return {
        "slices": len(true),
        "ece": expected_error(bins),
        "bias": float((predicted - true).mean()) if len(true) else float("nan"),
        "mean_error": float(np.abs(predicted - true).mean()) if len(true) else float("nan"),
        "spearman": spearman(predicted, true),
        "spearman_within": float(np.mean(within)) if within else float("nan"),
        "bins": [b._asdict() for b in bins],
    }


def report(record: Record) -> None:
    """Table, plot and summary."""
    rows = record.rows
    if not any(values for row in rows for values in row["true"]):
        print("no slice to judge yet")
        return
    summary = {group: judged(analysis.of_group(rows, group)) for group in analysis.groups_of(rows)}
    summary["all, mask not empty"] = judged(rows, filled=True)
    head = ["group", "slices", "ECE", "mean error", "predicted - true", "Spearman", "Spearman within an object"]
    lines = [
        [group, s["slices"], s["ece"], s["mean_error"], f"{s['bias']:+.3f}", s["spearman"], s["spearman_within"]]
        for group, s in summary.items()
    ]
    bins = [Bin(**b) for b in summary[analysis.ALL]["bins"]]
    spans = [[f"{k / BINS:.1f} - {(k + 1) / BINS:.1f}", *b] for k, b in enumerate(bins)]
    page = f"## Predicted quality against true Dice\n\n{markdown(head, lines)}\n## Bins, all slices\n\n"
    page += markdown(["predicted", "slices", "mean predicted", "mean true"], spans)
    draw(record.plot, rows, bins, summary[analysis.ALL])
    print(record.finish({"groups": summary}, page))


def draw(path: Path, rows: Sequence[Row], bins: Sequence[Bin], found: dict[str, Any]) -> Path:
    """Reliability plot over the distribution of predictions, and every slice beside it."""
    figure = new_figure(9.5, 5.2)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    axes = plain(figure.add_subplot(grid[0, 0]), "Reliability", "", "true Dice")
    some = [b for b in bins if b.slices]
    axes.plot([b.predicted for b in some], [b.true for b in some], "-o", color=colour_of(0), linewidth=2)
    axes.text(0.03, 0.93, f"ECE {found['ece']:.3f}   Spearman {found['spearman']:.2f}", fontsize=9.5, color=INK)
    low = plain(figure.add_subplot(grid[1, 0], sharex=axes), "", "predicted quality", "slices")
    low.bar((np.arange(BINS) + 0.5) / BINS, [b.slices for b in bins], 0.9 / BINS, color=colour_of(0), alpha=0.5)
    right = plain(figure.add_subplot(grid[:, 1]), "Every slice after every round", "predicted quality", "true Dice")
    values = [np.array([v for row in rows for part in row[name] for v in part]) for name in ("predicted", "true")]
    image = right.hexbin(*values, gridsize=28, extent=(0, 1, 0, 1), bins="log", mincnt=1, cmap="Blues", linewidths=0)
    figure.colorbar(image, ax=right, label="slices", shrink=0.7)
    for one in (axes, right):
        one.plot([0, 1], [0, 1], "--", color=FAINT, linewidth=1)
        one.set(xlim=(0, 1), ylim=(0, 1))
    return save_figure(figure, path)
