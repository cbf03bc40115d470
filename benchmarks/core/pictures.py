"""Plots of results and analyses in one style."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.core.record import Record
from limnet.commands.demo_report import FAINT, INK, bare
from limnet.errors import InputError
from limnet.image.io.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7A7A00", "#5B5BD6")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that is drawn without a display; raises InputError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("plots need matplotlib; install it with: pip install 'limnet[report]'") from None
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    return atomic_write(path, lambda p: figure.savefig(p, dpi=120, format="png"))


def colour_of(index: int) -> str:
    """Colour of the method of that number."""
    return PALETTE[index % len(PALETTE)]


def draw_rounds(found: Sequence[Record], path: Path) -> Path:
    """Mean Dice (or IoU) after every round, one panel for all objects and one for each group, one line per method."""
    groups: list[str | None] = [None, *sorted({g for results in found for g in results.groups})]
    panels = {}
    for group in groups if len(groups) > 2 else [None]:
        number = max(sum(group in (o["group"], None) for o in results.rows) for results in found)
        panels[f"{group or 'all'} ({number})"] = {results.name: results.curve(group=group) for results in found}
    return line_panels(path, str(found[0].about["title"]), panels, f"mean {found[0].quality_name}", columns=3)


def draw_cases(found: Sequence[Record], path: Path) -> Path:
    """Dice (or IoU) of every object after its last round, one strip per group and method, with the median."""
    groups = sorted({g for results in found for g in results.groups})
    figure = new_figure(max(5.0, 1.0 + 0.55 * len(groups) * (len(found) + 1)), 4.2)
    axes = figure.subplots()
    plain(axes)
    step = 0.8 / len(found)
    for k, results in enumerate(found):
        for place, group in enumerate(groups):
            some = [row for row in results.rows if row["group"] == group]
            if not some:
                continue
            scores, middle = [row[results.quality][-1] for row in some], place - 0.4 + step * (k + 0.5)
            # Dots of an object lie at the same place for every method.
            spread = [zlib.crc32(f"{row['case']}/{row['object']}".encode()) / 0xFFFFFFFF for row in some]
            x = [middle + step * 0.6 * (beside - 0.5) for beside in spread]
            axes.plot(x, scores, "o", color=colour_of(k), markersize=3.5, alpha=0.6, mew=0)
            axes.hlines(float(np.median(scores)), middle - step * 0.4, middle + step * 0.4, color=INK, linewidth=1.4)
    axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(f"{found[0].quality_name} after the last round", color=FAINT)
    _names_below(figure, [results.name for results in found])
    return save_figure(figure, path)


def plain(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """Axes in the common style."""
    bare(axes)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(xlabel, fontsize=9.5, color=FAINT)
    axes.set_ylabel(ylabel, fontsize=9.5, color=FAINT)
    return axes


def line_panels(
    path: Path,
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    ylabel: str = "mean Dice",
    xlabel: str = "round",
    columns: int = 4,
) -> Path:
    """Curves over rounds, one panel per group, one colour per name throughout.

    `panels`: title of a panel -> name of a curve -> values of rounds 1, 2, ...
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    wide = max(1, min(columns, len(panels)))
    high = max(1, -(-len(panels) // wide))
    figure = new_figure(max(3.3 * wide, 6.5), 2.9 * high + 0.9)
    grid = figure.subplots(high, wide, squeeze=False)
    for k, axes in enumerate(grid.ravel()):
        if k >= len(panels):
            axes.axis("off")
            continue
        panel, curves = list(panels.items())[k]
        plain(axes, panel, xlabel if k + wide >= len(panels) else "", ylabel if k % wide == 0 else "")
        for name, values in curves.items():
            place = names.index(name)
            axes.plot(
                range(1, len(values) + 1),
                values,
                marker=MARKERS[place % len(MARKERS)],
                color=colour_of(place),
                linewidth=1.8,
                markersize=4.5,
                alpha=0.9,
            )
        longest = max((len(values) for values in curves.values()), default=1)
        axes.set_xticks(range(1, longest + 1, 1 if longest <= 10 else 3))
    _names_below(figure, names)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    return save_figure(figure, path)


def bar_rows(
    path: Path,
    title: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    xlabel: str = "mean Dice",
    digits: int = 3,
) -> Path:
    """Horizontal bars: one row per name, one bar per series, the value at its end; NaN leaves a gap."""
    figure = new_figure(
        8.5, (0.3 if len(series) < 3 else 0.17) * len(names) * max(len(series), 1) + 0.12 * len(names) + 1.5
    )
    axes = plain(figure.subplots(), "", xlabel)
    step = 0.8 / max(len(series), 1)
    finite = [v for values in series.values() for v in values if np.isfinite(v)]
    reach = max([*map(abs, finite), 1e-9])
    for k, (name, values) in enumerate(series.items()):
        places = np.arange(len(names)) + (k - (len(series) - 1) / 2) * step
        axes.barh(places, np.nan_to_num(values), step * 0.9, color=colour_of(k), label=name)
        for place, value in zip(places, values, strict=True):
            if np.isfinite(value):
                side = 1 if value >= 0 else -1
                where = value + side * 0.01 * reach
                axes.text(
                    where, place, f"{value:.{digits}f}", va="center", ha=("right", "", "left")[side + 1], fontsize=8
                )
    axes.set_yticks(range(len(names)), names, fontsize=9.5, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.1)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=len(series), fontsize=9, frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    return save_figure(figure, path)


def _names_below(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour_of(k), marker=MARKERS[k % len(MARKERS)], linewidth=1.8, label=name)
        for k, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 4), fontsize=9, frameon=False)
