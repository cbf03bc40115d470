"""Plots of benchmark results; matplotlib is imported when one is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.core.results import BenchResults
from limnet.errors import InputError
from limnet.volume_io.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7A7A00", "#5B5BD6")
INK, GRID, FAINT = "#1f2933", "#d9dee4", "#52606d"
_COLUMNS = 3


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that is drawn without a display.

    Raises:
        InputError: matplotlib is not installed.
    """
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


def draw_rounds(found: Sequence[BenchResults], path: Path) -> Path:
    """Mean Dice (or IoU) after every round, one panel for all objects and one for each group, one line per method.

    Args:
        found: results of one suite.
        path: PNG to write.

    Raises:
        InputError: matplotlib is not installed.
    """
    groups: list[str | None] = [None, *sorted({g for results in found for g in results.groups})]
    if len(groups) == 2:
        groups = [None]
    columns = min(_COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(4.2 * columns, 3.1 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    last = max(results.rounds for results in found)
    for axes, group in zip(panels, groups, strict=False):
        _plain(axes)
        for k, results in enumerate(found):
            curve = results.curve(group=group)
            axes.plot(range(1, len(curve) + 1), curve, "-o", color=colour_of(k), markersize=4, label=results.name)
        number = max(sum(group in (o["group"], None) for o in results.objects) for results in found)
        axes.set_title(f"{group or 'all'} ({number})", loc="left", fontsize=10, color=INK)
        axes.set_ylim(0, 1)
        axes.set_xlim(0.7, last + 0.3)
        axes.set_xticks(range(1, last + 1))
    for axes in panels[len(groups) :]:
        axes.axis("off")
    panels[0].set_ylabel(f"mean {shown_quality(found)}", color=FAINT)
    panels[0].set_xlabel("round", color=FAINT)
    _legend(figure, panels[0])
    return save_figure(figure, path)


def draw_cases(found: Sequence[BenchResults], path: Path) -> Path:
    """Dice (or IoU) of every object after its last round, one strip per group and method, with the median.

    Args:
        found: results of one suite.
        path: PNG to write.

    Raises:
        InputError: matplotlib is not installed.
    """
    groups = sorted({g for results in found for g in results.groups})
    figure = new_figure(max(5.0, 1.0 + 0.55 * len(groups) * (len(found) + 1)), 4.2)
    axes = figure.subplots()
    _plain(axes)
    step = 0.8 / len(found)
    for k, results in enumerate(found):
        curves = results.table.curves(results.quality)
        for place, group in enumerate(groups):
            some = [o for o in results.objects if o["group"] == group]
            scores = [curves[o["case"], o["object"]][-1] for o in some]
            if not scores:
                continue
            middle = place - 0.4 + step * (k + 0.5)
            x = [middle + step * 0.6 * (_spread(o["case"], o["object"]) - 0.5) for o in some]
            label = results.name if place == 0 else None
            axes.plot(x, scores, "o", color=colour_of(k), markersize=3.5, alpha=0.6, mew=0, label=label)
            axes.hlines(float(np.median(scores)), middle - step * 0.4, middle + step * 0.4, color=INK, linewidth=1.4)
    axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(f"{shown_quality(found)} after the last round", color=FAINT)
    _legend(figure, axes)
    return save_figure(figure, path)


def shown_quality(found: Sequence[BenchResults]) -> str:
    """Name of what the results of one suite are measured by."""
    return "IoU" if found[0].quality == "iou" else "Dice"


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    keywords: dict[str, Any] = {"fontsize": 9, "frameon": False}
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), **keywords)


def _spread(case: str, object: str) -> float:
    """A number in 0..1 that belongs to an object: dots lie at the same place for every method."""
    return zlib.crc32(f"{case}/{object}".encode()) / 0xFFFFFFFF
