"""The picture of a demo run: slices with contours and clicks, Dice per round, quality per slice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.demo.display import Patient, window
from limnet.demo.run import DemoResult, StructureResult, mean_dice
from limnet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#E69F00", "#56B4E9", "#2BB58A", "#F0603C", "#D98BC0", "#F0E442", "#8E9BFF")
WINDOW = (-160.0, 240.0)  # HU: soft tissue
_RATIO = 0.69  # height of a slice panel by its width
INK, GRID, FAINT = "#1f2933", "#d9dee4", "#52606d"  # text, lines, what is secondary


def write_report(result: DemoResult, path: Path) -> Path:
    """Draw the report as PNG.

    Args:
        result: a finished run with at least one structure.
        path: file to write; its folder must exist.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("the picture needs matplotlib; install it with: pip install 'limnet[report]'") from None

    rows = len(result.structures)
    heights = [2.5, *[2.45] * rows]
    figure = Figure(figsize=(15, sum(heights) + 1.9), facecolor="white")
    FigureCanvasAgg(figure)
    size = figure.get_figheight()
    grid = figure.add_gridspec(
        rows + 1,
        4,
        height_ratios=heights,
        width_ratios=(1, 1, 1, 1.55),
        left=0.045,
        right=0.985,
        top=1 - 1.32 / size,
        bottom=0.75 / size,
        wspace=0.1,
        hspace=0.28,
    )
    _header(figure, result, size)
    _dice_panel(figure.add_subplot(grid[0, :3]), result)
    _table_panel(figure.add_subplot(grid[0, 3]), result)
    patient = Patient(result.volume)
    image = patient.show(result.volume.array)
    for row, structure in enumerate(result.structures, start=1):
        colour = PALETTE[(row - 1) % len(PALETTE)]
        for column in range(3):
            axes = figure.add_subplot(grid[row, column])
            _slice_panel(axes, patient, image, structure, column, colour, last=row == 1)
        _quality_panel(figure.add_subplot(grid[row, 3]), structure, colour, last=row == rows)
    figure.savefig(path, dpi=110)
    return path


def _header(figure: Figure, result: DemoResult, size: float) -> None:
    figure.text(0.045, 1 - 0.38 / size, "limnet demo", fontsize=19, fontweight="bold", color=INK)
    line = f"{result.files.title}   ·   model {result.model}   ·   robot user, one click per round"
    figure.text(0.18, 1 - 0.38 / size, line, fontsize=12, color=FAINT)
    figure.text(0.045, 1 - 0.63 / size, result.files.source, fontsize=9.5, color=FAINT)
    if result.notice:
        figure.text(0.045, 1 - 0.86 / size, result.notice, fontsize=10, color="#b23b1e")
    foot = (
        "Slices: filled = result, white dashes = reference. Clicks: green on the object, red off it, with their round, "
        "hollow when they lie on another slice. Patient's right is on the left."
    )
    figure.text(0.045, 0.16 / size, foot, fontsize=9, color=FAINT)


def bare(axes: Axes) -> None:
    """Axes in the common style: a thin grid, no frame above and at the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _dice_panel(axes: Axes, result: DemoResult) -> None:
    bare(axes)
    values: list[float] = []
    for k, s in enumerate(result.structures):
        numbers, scores = [r.number for r in s.rounds], [r.dice for r in s.rounds]
        values += scores
        axes.plot(numbers, scores, "-o", color=PALETTE[k % len(PALETTE)], linewidth=2, markersize=5, label=s.name)
    mean = mean_dice(result.structures)
    axes.plot(range(1, len(mean) + 1), mean, "--", color=INK, linewidth=2, label="mean")
    low = min(values, default=0.0)
    axes.set_ylim(max(0.0, np.floor(low * 10 - 0.5) / 10), 1.0)
    axes.set_xticks(range(1, len(mean) + 1))
    axes.set_xlim(0.8, len(mean) + 0.2)
    axes.set_title("Dice after each round", loc="left", fontsize=11.5, fontweight="bold", color=INK)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(result.structures) + 1,
        fontsize=9,
        frameon=False,
        handlelength=1.6,
        borderaxespad=0.2,
        columnspacing=1.1,
    )


def _table_panel(axes: Axes, result: DemoResult) -> None:
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    lines = [("structure", "first", "last", "s / round")]
    for s in result.structures:
        seconds = float(np.mean([r.seconds for r in s.rounds])) if s.rounds else float("nan")
        first, last = (s.rounds[0].dice, s.rounds[-1].dice) if s.rounds else (float("nan"),) * 2
        lines.append((s.name, f"{first:.3f}", f"{last:.3f}", f"{seconds:.2f}"))
    mean = mean_dice(result.structures)
    if mean:
        every = [r.seconds for s in result.structures for r in s.rounds]
        lines.append(("mean", f"{mean[0]:.3f}", f"{mean[-1]:.3f}", f"{float(np.mean(every)):.2f}"))
    step = 0.94 / max(len(lines), 1)
    for row, cells in enumerate(lines):
        bold = row == 0 or cells[0] == "mean"
        colour = PALETTE[(row - 1) % len(PALETTE)] if 0 < row <= len(result.structures) else None
        if colour:
            axes.plot([0.065], [0.985 - step * row], "s", color=colour, markersize=8)
        for x, cell in zip((0.1, 0.62, 0.8, 1.0), cells, strict=True):
            axes.text(
                x,
                0.985 - step * row,
                cell,
                fontsize=10.5,
                va="center",
                ha="left" if x == 0.1 else "right",
                color=INK if row else FAINT,
                fontweight="bold" if bold else "normal",
            )
    if result.peak_memory:
        axes.text(1.0, -0.06, f"peak memory {result.peak_memory / 2**30:.2f} GiB", fontsize=9, color=FAINT, ha="right")


def _slice_panel(
    axes: Axes,
    patient: Patient,
    image: NDArray[Any],
    structure: StructureResult,
    column: int,
    colour: str,
    last: bool,
) -> None:
    """One of three planes through the first click, cut to the surroundings of the structure."""
    truth, mask = patient.show(structure.truth), patient.show(structure.mask)
    middle = patient.point(structure.rounds[0].zyx) if structure.rounds else tuple(n // 2 for n in mask.shape)
    axis = 2 - column  # shown arrays are (R, A, S): axial cuts S, coronal cuts A, sagittal cuts R
    index = middle[axis]
    steps = [s for a, s in enumerate(patient.spacing) if a != axis]
    planes: list[NDArray[Any]] = [np.asarray(np.take(a, index, axis=axis)) for a in (image, truth, mask)]
    gray, reference, found = (p[::-1].T for p in planes)  # high R and high A come to lie on the left
    (nu, nv), (su, sv) = planes[0].shape, steps
    extent = ((nu - 0.5) * su, -0.5 * su, -0.5 * sv, (nv - 0.5) * sv)
    low, high = WINDOW
    axes.imshow(gray, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent, interpolation="lanczos")
    tint = np.zeros((*found.shape, 4))
    tint[..., :3] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    tint[..., 3] = np.where(found, 0.38, 0.0)
    axes.imshow(tint, origin="lower", extent=extent, interpolation="nearest")
    x, y = np.arange(nu - 1, -1, -1) * su, np.arange(nv) * sv
    if min(found.shape) > 1:
        if found.any() and not found.all():
            axes.contour(x, y, found.astype(float), levels=[0.5], colors=[colour], linewidths=1.8)
        if reference.any() and not reference.all():
            axes.contour(x, y, reference.astype(float), levels=[0.5], colors=["white"], linewidths=1.1, linestyles="--")
    (left, right), (bottom, top) = window(planes[1] | planes[2], steps, middle[:axis] + middle[axis + 1 :], _RATIO)
    axes.set_xlim(right, left)
    axes.set_ylim(bottom, top)
    for r in structure.rounds:
        _marker(axes, patient.point(r.zyx), axis, index, steps, r.number, r.positive)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    axes.set_aspect("auto")
    axes.set_box_aspect(_RATIO)
    if last:
        axes.set_title(("axial", "coronal", "sagittal")[column], fontsize=10.5, color=FAINT, pad=4)
    if column == 0:
        axes.set_ylabel(structure.name, fontsize=12, fontweight="bold", color=INK)


def _marker(
    axes: Axes, point: tuple[int, ...], axis: int, index: int, steps: list[float], number: int, positive: bool
) -> None:
    u, v = (p * s for p, s in zip((p for a, p in enumerate(point) if a != axis), steps, strict=True))
    tone = "#37e05a" if positive else "#ff3b3b"
    here = point[axis] == index
    axes.plot(
        [u],
        [v],
        "o",
        markersize=11 if here else 8,
        markerfacecolor=tone if here else "none",
        markeredgecolor="black" if here else tone,
        markeredgewidth=1.2,
        alpha=1.0 if here else 0.75,
        clip_on=True,
    )
    if here:
        axes.text(
            u,
            v,
            str(number),
            fontsize=7.5,
            ha="center",
            va="center_baseline",
            color="black",
            fontweight="bold",
            clip_on=True,
        )


def _quality_panel(axes: Axes, structure: StructureResult, colour: str, last: bool) -> None:
    """Predicted quality and true Dice of each slice; ticks below where the user clicked."""
    bare(axes)
    truth, mask = structure.truth, structure.mask
    both = 2.0 * (truth & mask).sum(axis=(1, 2))
    total = truth.sum(axis=(1, 2)) + mask.sum(axis=(1, 2))
    used = np.flatnonzero(total)
    if len(used):
        actual = np.full(len(truth), np.nan)
        actual[used] = both[used] / total[used]
        span = np.arange(max(used[0] - 2, 0), min(used[-1] + 3, len(truth)))
        axes.fill_between(span, 0, np.nan_to_num(actual[span]), step="mid", color=colour, alpha=0.3, linewidth=0)
        predicted = np.where(np.isin(span, used), structure.quality[span], np.nan)
        axes.plot(span, predicted, color=INK, linewidth=1.6)
        axes.set_xlim(span[0] - 0.5, span[-1] + 0.5)
    for r in structure.rounds:
        axes.plot([r.zyx[0]], [0.03], "^", color="#1f9d44" if r.positive else "#d22626", markersize=7, clip_on=False)
    axes.set_ylim(0, 1.02)
    axes.set_title(
        "per slice:  line = predicted quality,  area = true Dice", loc="left", fontsize=9.5, color=FAINT, pad=4
    )
    if last:
        axes.set_xlabel("slice   (triangles: clicks)", fontsize=9.5, color=FAINT)
