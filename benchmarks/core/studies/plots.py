"""Plots of the analysis scripts, all in one style. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.core.plots import FAINT, GRID, INK, colour_of, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plain(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """Axes in the common style."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
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

    Args:
        path: PNG file.
        title: of the whole.
        panels: title of a panel -> name of a curve -> values of rounds 1, 2, ...
        ylabel: of the left panels.
        xlabel: of all panels.
        columns: panels side by side at most.
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
    _legend(figure, names)
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
    """Horizontal bars: one row per name, one bar per series, the value at its end.

    Args:
        path: PNG file.
        title: of the plot.
        names: of the rows, top to bottom.
        series: name -> one value per row; NaN leaves a gap.
        xlabel: of the values.
        digits: of the values at the bars' ends.
    """
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


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour_of(k), marker=MARKERS[k % len(MARKERS)], linewidth=1.8, label=name)
        for k, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 4), fontsize=9, frameon=False)
