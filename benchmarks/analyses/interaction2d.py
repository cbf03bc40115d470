"""The interaction network alone, in 2-D: Dice after every click, and clicks needed for a Dice of .85 and .90.

    limnet bench interaction2d-slices --data ROOT --out benchmarks/results --model limnet-tiny

The largest slice of every object, twice: as a whole, as users have it, and cut to a window at the object's true scale
(its longer side takes 40 % of the window), which takes the search for the object out of the task. Both go the way of
the product: windows, second looks and click rules included, only propagation is left out. The robot clicks in the
middle of the largest 2-D error. Objects that never get there count as `--rounds` clicks (default 20).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import ndimage

from benchmarks.analyses.watchers import WatchedPredictor
from benchmarks.core import analysis
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import line_panels
from benchmarks.core.record import Record, Row, pace
from benchmarks.core.report import markdown, share
from benchmarks.core.rounds import Target, columns
from limnet.case.case import Case
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.metrics.interaction import clicks_to_quality
from limnet.segmenter import InteractiveSegmenter
from limnet.simulation.clicks import RobotUser

WHOLE, WINDOW = "whole slice", "window at true scale"
VARIANTS = (WHOLE, WINDOW)
QUALITIES = (0.85, 0.90)
SHARE = 0.4  # of the window's side, taken by the longer side of the object
SMALLEST = 32  # pixels a window shows at least
SHOWN = (1, 2, 3, 4, 5, 6, 10, 20)

Cut = tuple[slice, slice]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "", rounds=20)
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity}
    record = analysis.record_of(parser, args, "interaction2d-slices", fixed, "interaction2d")
    cuts: dict[str, Callable[[Target, int], Cut]] = {WHOLE: whole, WINDOW: true_scale}
    analysis.analyse(record, args, {name: partial(measure, segmenter, cut, args.rounds) for name, cut in cuts.items()})
    report(record, Comparison.of(record, VARIANTS, args.rounds))


def measure(segmenter: InteractiveSegmenter, cut: Callable[[Target, int], Cut], rounds: int, target: Target) -> Row:
    """One object on its largest slice, cut to a window."""
    click = RobotUser(target.volume.spacing).next_click(target.truth, None, 1)
    if click is None:
        return {"left_out": "no object"}
    index, *yx = click.zyx
    window = SliceView(target.volume, 0).auto_window(index, yx)
    here = (slice(index, index + 1), *cut(target, index))
    volume = Volume.from_array(np.ascontiguousarray(target.volume.array[here]), target.volume.spacing)
    engine = segmenter.engine()
    seen = WatchedPredictor(engine.predictor)
    case = Case(replace(engine, predictor=seen), volume, settings=segmenter.settings, window=window)
    found = columns(analysis.play_case(case, target.truth[here], rounds))
    newest = [sum(seen.last), len(seen.last)]
    return {**found, "slice": index, "shape": list(volume.shape[1:3]), "newest": newest}


def whole(target: Target, index: int) -> Cut:
    """The whole slice."""
    return slice(None), slice(None)


def true_scale(target: Target, index: int) -> Cut:
    """A window, square in mm, in which the object on slice `index` takes `SHARE`; moved to lie on the slice."""
    truth, steps = target.truth[index], target.volume.spacing[1:]
    (ends,) = ndimage.find_objects(truth.astype(np.uint8))
    side = max((end.stop - end.start) * step for end, step in zip(ends, steps, strict=True)) / SHARE
    cut = []
    for end, step, size in zip(ends, steps, truth.shape, strict=True):
        pixels = min(max(round(side / step), SMALLEST), size)
        start = int(np.clip(round((end.start + end.stop) / 2 - pixels / 2), 0, size - pixels))
        cut.append(slice(start, start + pixels))
    return cut[0], cut[1]


def report(record: Record, found: Comparison) -> None:
    """Table, plot and summary of the objects that both variants have."""
    rounds, summary, needs = found.rounds, found.curves(), []
    names = {q: f"NoC@{100 * q:.0f}" for q in QUALITIES}
    for group, entry in summary.items():
        for variant in VARIANTS:
            some = found.some(variant, group)
            failed = {q: sum(max(row["dice"]) < q for row in some) for q in QUALITIES}
            noc = {q: np.mean([clicks_to_quality(row["dice"], q, rounds) for row in some]) for q in QUALITIES}
            obeyed, seconds = analysis.ratio(some, "newest"), pace(some)
            entry[variant] = {names[q]: float(noc[q]) for q in QUALITIES}
            entry[variant] |= {f"failed@{100 * q:.0f}": failed[q] for q in QUALITIES}
            entry[variant] |= {"obeyed": obeyed, "seconds": seconds}
            cells = [f"{noc[q]:.2f} ({failed[q]} failed)" for q in QUALITIES]
            needs.append([group, variant, *cells, share(obeyed), f"{1000 * seconds:.0f}"])
    shown = sorted({r for r in (*SHOWN, rounds) if r <= rounds})
    table = found.table("image", shown=shown, unit="click")
    page = f"## Mean 2-D Dice of the largest slice\n\n{table}\n## Clicks needed, at most {rounds}\n\n"
    page += markdown(["group", "image", *names.values(), "newest click obeyed by the network", "ms / click"], needs)
    title = "2-D Dice per click, largest slice of every object"
    line_panels(record.plot, title, found.panels(), "mean 2-D Dice", "click")
    print(record.finish({"groups": summary}, page))
