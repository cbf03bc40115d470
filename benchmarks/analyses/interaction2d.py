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

import numpy as np
from numpy.typing import NDArray

from benchmarks.analyses.watchers import WatchedPredictor
from benchmarks.core import study, tables
from benchmarks.core.plots import line_panels
from benchmarks.core.record import Record, Row
from limnet.case.engine import Engine
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
    parser = study.study_parser(__doc__ or "", rounds=20)
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity}
    record = study.begin(parser, args, "interaction2d-slices", fixed, "interaction2d")
    cuts: dict[str, Callable[[study.StudyObject, int], Cut]] = {WHOLE: whole, WINDOW: true_scale}
    study.sweep(
        record, study.objects_of(args), {name: measured(segmenter, cut, args.rounds) for name, cut in cuts.items()}
    )
    report(record, args.rounds)


def measured(
    segmenter: InteractiveSegmenter, cut: Callable[[study.StudyObject, int], Cut], rounds: int
) -> study.Measure:
    """How to measure an object on its largest slice, cut to a window."""

    def measure(thing: study.StudyObject) -> Row:
        click = RobotUser(thing.volume.spacing).next_click(thing.truth, None, 1)
        if click is None:
            return {"left_out": "no object"}
        index, *yx = click.zyx
        window = SliceView(thing.volume, 0).auto_window(index, yx)
        here = (slice(index, index + 1), *cut(thing, index))
        volume = Volume.from_array(np.ascontiguousarray(thing.volume.array[here]), thing.volume.spacing)
        watched: list[WatchedPredictor] = []

        def watch(engine: Engine) -> Engine:
            watched.append(WatchedPredictor(engine.predictor))
            return replace(engine, predictor=watched[0])

        case = study.open_case(segmenter, volume, window=window, change=watch)
        turns = list(study.play(case, thing.truth[here], rounds))
        obeyed = [sum(watched[0].last), len(watched[0].last)]
        return {**study.scores(turns), "slice": index, "shape": list(volume.shape[1:3]), "newest": obeyed}

    return measure


def whole(thing: study.StudyObject, index: int) -> Cut:
    """The whole slice."""
    return slice(None), slice(None)


def true_scale(thing: study.StudyObject, index: int) -> Cut:
    """A window, square in mm, in which the object on slice `index` takes `SHARE`; moved to lie on the slice."""
    truth, steps = thing.truth[index], thing.volume.spacing[1:]
    ends = [_ends(truth.any(axis)) for axis in (1, 0)]
    side = max((high - low) * step for (low, high), step in zip(ends, steps, strict=True)) / SHARE
    cut = []
    for (low, high), step, size in zip(ends, steps, truth.shape, strict=True):
        pixels = min(max(round(side / step), SMALLEST), size)
        start = int(np.clip(round((low + high) / 2 - pixels / 2), 0, size - pixels))
        cut.append(slice(start, start + pixels))
    return cut[0], cut[1]


def report(record: Record, rounds: int) -> None:
    """Table, plot and summary of the objects that both variants have."""
    rows = tables.common_rows(record.rows, VARIANTS)
    if not rows:
        print("nothing to compare yet")
        return
    shown = sorted({r for r in (*SHOWN, rounds) if r <= rounds})
    panels, summary, lines, needs = {}, {}, [], []
    for group in tables.groups_of(rows):
        some = tables.of_group(rows, group)
        curves = {v: tables.mean_dice(tables.of_variant(some, v)) for v in VARIANTS}
        count = len(tables.of_variant(some, WHOLE))
        panels[f"{group} ({count})"] = curves
        summary[group] = {"objects": count, "dice": curves}
        for variant in VARIANTS:
            of = tables.of_variant(some, variant)
            lines.append([group, count, variant, *(curves[variant][r - 1] for r in shown)])
            clicks = {q: [clicks_to_quality(row["dice"], q, rounds) for row in of] for q in QUALITIES}
            failed = {q: sum(max(row["dice"]) < q for row in of) for q in QUALITIES}
            newest, total = (sum(row["newest"][i] for row in of) for i in (0, 1))
            found = {f"NoC@{100 * q:.0f}": float(np.mean(clicks[q])) for q in QUALITIES}
            found |= {f"failed@{100 * q:.0f}": failed[q] for q in QUALITIES}
            found |= {"obeyed": newest / total if total else float("nan"), "seconds": tables.pace(of)}
            summary[group][variant] = found
            cells = [f"{found[f'NoC@{100 * q:.0f}']:.2f} ({failed[q]} failed)" for q in QUALITIES]
            needs.append([group, variant, *cells, tables.share(found["obeyed"]), f"{1000 * found['seconds']:.0f}"])
    head = ["group", "objects", "image", *(f"click {r}" for r in shown)]
    page = "## Mean 2-D Dice of the largest slice\n\n" + tables.markdown(head, lines)
    page += f"\n## Clicks needed, at most {rounds}\n\n"
    names = [f"NoC@{100 * q:.0f}" for q in QUALITIES]
    page += tables.markdown(["group", "image", *names, "newest click obeyed by the network", "ms / click"], needs)
    line_panels(record.plot, "2-D Dice per click, largest slice of every object", panels, "mean 2-D Dice", "click")
    print(record.finish({"groups": summary}, page).read_text(encoding="utf-8"))


def _ends(line: NDArray[np.bool_]) -> tuple[int, int]:
    where = np.flatnonzero(line)
    return int(where[0]), int(where[-1]) + 1


if __name__ == "__main__":
    main()
