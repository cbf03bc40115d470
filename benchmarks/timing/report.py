"""Tables and plot of the speed suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core.plots import colour_of, new_figure, save_figure
from benchmarks.core.studies.plots import MARKERS, plain
from benchmarks.core.studies.record import Record
from benchmarks.core.studies.tables import markdown
from benchmarks.timing.methods import (
    ENCODE,
    FIRST,
    LATER,
    METHODS,
    OPEN,
    ROUND_FIRST,
    ROUND_LATER,
    SLICE_FIRST,
    SLICE_LATER,
)
from benchmarks.timing.summary import COMBINED, summarise

Row = dict[str, Any]
RATIOS = (FIRST, LATER, SLICE_FIRST, SLICE_LATER, ROUND_FIRST, ROUND_LATER)
_MIB = 2**20
_STAGE = "later round"


def write_speed_report(record: Record) -> Path:
    """Summary into the record, tables and plot beside it; returns the path of the tables."""
    summary = summarise(record.rows)
    if summary["timed"]:
        draw_ratios(summary, record.plot)
    return record.finish(summary, speed_tables(summary))


def speed_tables(summary: Row) -> str:
    """Markdown of what `summarise` found."""
    base = summary["base"]
    parts = [
        "Methods took turns, lap by lap, one process per size. p50/p95 are of single clicks; in brackets, quartiles. "
        f"A ratio divides what was measured in the same lap: above 1 is slower than {base}.\n"
    ]
    for config in dict.fromkeys((r["size"], r["threads"], r["precision"]) for r in summary["timed"]):
        some = [r for r in summary["timed"] if (r["size"], r["threads"], r["precision"]) == config]
        size, threads, precision = config
        parts.append(f"## {size} x {size} pixels, {threads} thread{'s' * (threads > 1)}, {precision}\n")
        head = [
            "method",
            "laps",
            "open, ms",
            "encode a slice, ms",
            "first click, ms p50/p95",
            "later click, ms p50/p95",
        ]
        head += ["slices/s, first round", "slices/s, later round"]
        parts.append(markdown(head, [_times(r) for r in some]))
        lines = [[r["method"], *(_ratio(r["times_base"].get(p)) for p in RATIOS)] for r in some if r["times_base"]]
        if lines:
            parts.append(f"Times as long as {base}:\n")
            parts.append(markdown(["method", *RATIOS], lines))
    if summary["configurations"]:
        parts.append("## Reference, threads and precision: times as long\n")
        lines = [
            [f"{r['method']}, {r['size']}, {_where(r)}", r["what"], *(_ratio(r["ratios"].get(p)) for p in RATIOS[:4])]
            for r in summary["configurations"]
        ]
        parts.append(markdown(["method, pixels", "ratio of", *RATIOS[:4]], lines))
    parts += _memory(summary["memory"])
    parts.append("## Methods\n")
    there = {row["method"] for row in (*summary["timed"], *summary["memory"])}
    for name, entry in METHODS.items():
        if (why := summary["left_out"].get(name)) or name in there:
            parts.append(f"- `{name}`: {entry.title}" + (f". Left out: {why}" if why else ""))
    parts += [f"- `{name}`: clicks of {a}, slices of {b}" for name, (a, b) in COMBINED.items() if name in there]
    parts.append("\nHeavy methods run on few slices, and with the largest number of threads only.")
    return "\n".join(parts) + "\n"


def draw_ratios(summary: Row, path: Path) -> Path:
    """Ratios to the base on a logarithmic scale, one panel per configuration, one colour per part."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    shown = RATIOS[:4]
    configs = list(dict.fromkeys((r["size"], r["threads"], r["precision"]) for r in summary["timed"]))
    columns = min(2, len(configs))
    lines = [configs[first : first + columns] for first in range(0, len(configs), columns)]
    ratios = [r for r in summary["timed"] if r["times_base"]]
    there = [{r["method"] for r in ratios if (r["size"], r["threads"], r["precision"]) in line} for line in lines]
    shown_names = [[n for n in [*METHODS, *COMBINED] if n in found] for found in there]
    heights = [0.42 * max(len(names), 2) + 1.1 for names in shown_names]
    figure = new_figure(6.5 * columns, sum(heights) + 0.8)
    grid = figure.subplots(len(lines), columns, squeeze=False, sharey="row", sharex=True, height_ratios=heights)
    for axes in grid.ravel()[len(configs) :]:
        axes.axis("off")
    for number, (axes, config) in enumerate(zip(grid.ravel(), configs, strict=False)):
        names = shown_names[number // columns]
        plain(axes, f"{config[0]} pixels, threads: {config[1]}, {config[2]}", f"times as long as {summary['base']}")
        axes.axvline(1, color="#9aa5b1", linewidth=1)
        for row in summary["timed"]:
            if (row["size"], row["threads"], row["precision"]) != config or row["method"] not in names:
                continue
            for k, part in enumerate(shown):
                if found := row["times_base"].get(part):
                    place = names.index(row["method"]) + (k - 1.5) * 0.18
                    axes.plot([found["low"], found["high"]], [place, place], color=colour_of(k), linewidth=1.5)
                    axes.plot(found["median"], place, MARKERS[k], color=colour_of(k), markersize=6, label=part)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_ylim(len(names) - 0.5, -0.5)
    handles = {label: h for axes in grid.ravel() for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.suptitle("Time against limnet's small model", x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    return save_figure(figure, path)


def _times(row: Row) -> list[object]:
    found = row["seconds"]
    cells: list[object] = [f"**{row['method']}**" if row["method"] == "tiny" else row["method"], row["laps"]]
    for part in (OPEN, ENCODE):
        cells.append(_spread(found[part], 1000) if part in found else None)
    for part in (FIRST, LATER):
        cells.append(f"{1000 * found[part]['p50']:.1f}/{1000 * found[part]['p95']:.1f}" if part in found else None)
    for part in (SLICE_FIRST, SLICE_LATER):
        cells.append(_rate(found[part]) if part in found else None)
    return cells


def _memory(found: Sequence[Row]) -> list[str]:
    if not found:
        return []
    parts = ["## Memory\n", "MiB held beyond the image and the loaded model, each depth in a process of its own.\n"]
    for entry in found:
        stages, image = entry["stages"], dict(entry["image"])
        peaks = dict(entry["peaks"])
        kinds = list(stages[_STAGE])
        head = [f"{entry['method']}, {entry['size']} pixels", "image", *(f"{k}, {_STAGE}" for k in kinds), "peak"]
        lines: list[list[object]] = []
        for slices in sorted(image):
            values = [np.median([b for s, b in stages[_STAGE][kind]["points"] if s == slices]) for kind in kinds]
            peak = _mib(peaks[slices]) if slices in peaks else None
            lines.append([f"{slices} slices", _mib(image[slices]), *map(_mib, values), peak])
        grown = {kind: stages[_STAGE][kind] for kind in kinds}
        if all("per_100" in value for value in grown.values()):
            first, last = min(image), max(image)
            per_image = 100 * image[last] / last
            lines.append(["per 100 slices more", _mib(per_image), *(_mib(g["per_100"]) for g in grown.values()), None])
            lines.append(["the same, as share of the image", None,
                          *(f"{g['per_100'] / per_image:.2f}" for g in grown.values()), None])  # fmt: skip
            times = [f"{g['times']:.2f}" if np.isfinite(g["times"]) else None for g in grown.values()]
            lines.append([f"{last} slices / {first} slices", f"{last / first:.2f}", *times, None])
        parts.append(markdown(head, lines))
    return parts


def _spread(found: dict[str, float], scale: float) -> str:
    return f"{scale * found['median']:.1f} ({scale * found['low']:.1f}-{scale * found['high']:.1f})"


def _rate(found: dict[str, float]) -> str:
    return f"{1 / found['median']:.2f} ({1 / found['high']:.2f}-{1 / found['low']:.2f})"


def _ratio(found: dict[str, float] | None) -> str | None:
    return None if found is None else f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f})"


def _mib(size: float) -> str:
    return f"{size / _MIB:.1f}"


def _where(row: Row) -> str:
    if "thread" in row["what"]:
        return str(row["precision"])
    where = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    return where if "fp32" in row["what"] else f"{where}, {row['precision']}"
