"""The picture of a demo run: slices with contours and clicks, Dice per round, quality per slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from limnet.commands.demo import DemoResult, StructureResult
    from limnet.image.volume import Volume

PALETTE = ("#E69F00", "#56B4E9", "#2BB58A", "#F0603C", "#D98BC0", "#F0E442", "#8E9BFF")
WINDOW = (-160.0, 240.0)  # HU: soft tissue
_RATIO = 0.69  # height of a slice panel by its width
INK, GRID, FAINT = "#1f2933", "#d9dee4", "#52606d"  # text, lines, what is secondary


def write_report(result: DemoResult, path: Path) -> Path:
    """Draw a finished run, with at least one structure, as PNG; InputError if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("the picture needs matplotlib; install it with: pip install 'limnet[report]'") from None

    rows = len(result.structures)
    heights = [2.5, *[2.45] * rows]
    size = sum(heights) + 1.9
    figure = Figure(figsize=(15, size), facecolor="white")
    FigureCanvasAgg(figure)
    margins = {"left": 0.045, "right": 0.985, "top": 1 - 1.32 / size, "bottom": 0.75 / size, "wspace": 0.1}
    grid = figure.add_gridspec(rows + 1, 4, height_ratios=heights, width_ratios=(1, 1, 1, 1.55), hspace=0.28, **margins)
    _header(figure, result, size)
    _dice_panel(figure.add_subplot(grid[0, :3]), result)
    _table_panel(figure.add_subplot(grid[0, 3]), result)
    patient = Patient(result.volume)
    image = patient.show(result.volume.array)
    for row, structure in enumerate(result.structures, start=1):
        colour = PALETTE[(row - 1) % len(PALETTE)]
        for column in range(3):
            axes = figure.add_subplot(grid[row, column])
            _slice_panel(axes, patient, image, structure, column, colour, first=row == 1)
        _quality_panel(figure.add_subplot(grid[row, 3]), structure, colour, last=row == rows)
    figure.savefig(path, dpi=110)
    return path


class Patient:
    """Turns arrays of one volume to (R, A, S): axes nearest to right, anterior, superior, all increasing that way."""

    def __init__(self, volume: Volume) -> None:
        import nibabel

        self._turn = nibabel.io_orientation(volume.affine_in("RAS"))  # file axis (x, y, z) -> shown axis and direction
        self._size = volume.shape[::-1]
        self.spacing = tuple(volume.spacing[2 - int(axis)] for axis in np.argsort(self._turn[:, 0]))

    def show(self, array: NDArray[Any]) -> NDArray[Any]:
        """Array (D, H, W), colour allowed as a last axis (shown as its mean), in patient order."""
        import nibabel

        return nibabel.apply_orientation((array.mean(axis=3) if array.ndim == 4 else array).T, self._turn)

    def point(self, zyx: Sequence[int]) -> tuple[int, ...]:
        """Voxel (z, y, x) in patient order."""
        found = {
            int(axis): int(place) if direction > 0 else count - 1 - int(place)
            for place, count, (axis, direction) in zip(zyx[::-1], self._size, self._turn, strict=True)
        }
        return found[0], found[1], found[2]


def panel_range(
    structure: NDArray[np.bool_], steps: Sequence[float], middle: Sequence[int], ratio: float
) -> list[tuple[float, float]]:
    """The part of a plane round its structure (U, V), mm: 20 to spare, at least 90 wide, inside the plane if it fits.

    `steps` are mm per pixel, `middle` the pixel to centre on where the structure is not on this plane, `ratio` height
    by width.
    """
    ends = []
    for a in range(2):
        hits = np.flatnonzero(structure.any(axis=1 - a))
        ends.append(np.array([hits[0], hits[-1]] if len(hits) else [middle[a]] * 2) * steps[a])
    halves = [(high - low) / 2 + 20 for low, high in ends]
    width = max(halves[0], halves[1] / ratio, 45.0)
    spans = []
    for a, half in enumerate((width, width * ratio)):
        low, high = -0.5 * steps[a], (structure.shape[a] - 0.5) * steps[a]
        centre = np.clip(ends[a].mean(), low + half, high - half) if high - low > 2 * half else (low + high) / 2
        spans.append((float(centre - half), float(centre + half)))
    return spans


def bare(axes: Axes) -> None:
    """Axes in the common style: a thin grid, no frame above and at the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


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


def _dice_panel(axes: Axes, result: DemoResult) -> None:
    bare(axes)
    for structure, colour in zip(result.structures, PALETTE * len(result.structures), strict=False):
        scores = [r.dice for r in structure.rounds]
        axes.plot(range(1, len(scores) + 1), scores, "-o", color=colour, lw=2, ms=5, label=structure.name)
    mean = result.mean_dice
    axes.plot(range(1, len(mean) + 1), mean, "--", color=INK, linewidth=2, label="mean")
    low = min(r.dice for s in result.structures for r in s.rounds)
    axes.set_ylim(max(0.0, np.floor(low * 10 - 0.5) / 10), 1.0)
    axes.set_xticks(range(1, len(mean) + 1))
    axes.set_xlim(0.8, len(mean) + 0.2)
    axes.set_title("Dice after each round", loc="left", fontsize=11.5, fontweight="bold", color=INK)
    spaces = {"handlelength": 1.6, "borderaxespad": 0.2, "columnspacing": 1.1}
    columns = len(result.structures) + 1
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, fontsize=9, frameon=False, **spaces)


def _table_panel(axes: Axes, result: DemoResult) -> None:
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    lines = [("structure", "first", "last", "s / round")]
    for s in result.structures:
        lines.append((s.name, f"{s.rounds[0].dice:.3f}", f"{s.rounds[-1].dice:.3f}", f"{s.seconds:.2f}"))
    mean = result.mean_dice
    lines.append(("mean", f"{mean[0]:.3f}", f"{mean[-1]:.3f}", f"{result.mean_seconds:.2f}"))
    for row, cells in enumerate(lines):
        height = 0.985 - 0.94 / len(lines) * row
        if 0 < row <= len(result.structures):
            axes.plot([0.065], [height], "s", color=PALETTE[(row - 1) % len(PALETTE)], markersize=8)
        style: dict[str, Any] = {
            "fontweight": "bold" if row in (0, len(lines) - 1) else "normal",
            "color": INK if row else FAINT,
        }
        for x, cell in zip((0.1, 0.62, 0.8, 1.0), cells, strict=True):
            side = "left" if x == 0.1 else "right"
            axes.text(x, height, cell, fontsize=10.5, va="center", ha=side, **style)
    if result.peak_memory:
        axes.text(1.0, -0.06, f"peak memory {result.peak_memory / 2**30:.2f} GiB", fontsize=9, color=FAINT, ha="right")


def _slice_panel(
    axes: Axes,
    patient: Patient,
    image: NDArray[Any],
    structure: StructureResult,
    column: int,
    colour: str,
    first: bool,
) -> None:
    """One of three planes through the first click, cut to the surroundings of the structure."""
    truth, mask = patient.show(structure.truth), patient.show(structure.mask)
    middle = patient.point(structure.rounds[0].zyx)
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
    for plane, tone, width, line in ((found, colour, 1.8, "-"), (reference, "white", 1.1, "--")):
        if min(plane.shape) > 1 and plane.any() and not plane.all():
            axes.contour(x, y, plane.astype(float), levels=[0.5], colors=[tone], linewidths=width, linestyles=line)
    (left, right), limits = panel_range(planes[1] | planes[2], steps, middle[:axis] + middle[axis + 1 :], _RATIO)
    axes.set_xlim(right, left)
    axes.set_ylim(limits)
    for number, r in enumerate(structure.rounds, start=1):
        point = patient.point(r.zyx)
        u, v = (p * s for p, s in zip((p for a, p in enumerate(point) if a != axis), steps, strict=True))
        tone = "#37e05a" if r.positive else "#ff3b3b"
        if point[axis] == index:
            axes.plot([u], [v], "o", markersize=11, color=tone, markeredgecolor="black", markeredgewidth=1.2)
            text: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontweight": "bold", "color": "black"}
            axes.text(u, v, str(number), fontsize=7.5, clip_on=True, **text)
        else:
            axes.plot([u], [v], "o", markersize=8, markerfacecolor="none", markeredgecolor=tone, alpha=0.75)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    axes.set_aspect("auto")
    axes.set_box_aspect(_RATIO)
    if first:
        axes.set_title(("axial", "coronal", "sagittal")[column], fontsize=10.5, color=FAINT, pad=4)
    if column == 0:
        axes.set_ylabel(structure.name, fontsize=12, fontweight="bold", color=INK)


def _quality_panel(axes: Axes, structure: StructureResult, colour: str, last: bool) -> None:
    """Predicted quality and true Dice of each slice; ticks below where the user clicked."""
    bare(axes)
    truth, mask = structure.truth, structure.mask
    total = truth.sum(axis=(1, 2)) + mask.sum(axis=(1, 2))
    actual = 2.0 * (truth & mask).sum(axis=(1, 2)) / np.maximum(total, 1)
    used = np.flatnonzero(total)
    span = np.arange(max(used[0] - 2, 0), min(used[-1] + 3, len(truth)))
    axes.fill_between(span, 0, actual[span], step="mid", color=colour, alpha=0.3, linewidth=0)
    axes.plot(span, np.where(total[span] > 0, structure.quality[span], np.nan), color=INK, linewidth=1.6)
    axes.set_xlim(span[0] - 0.5, span[-1] + 0.5)
    for r in structure.rounds:
        axes.plot([r.zyx[0]], [0.03], "^", color="#1f9d44" if r.positive else "#d22626", markersize=7, clip_on=False)
    axes.set_ylim(0, 1.02)
    title = "per slice:  line = predicted quality,  area = true Dice"
    axes.set_title(title, loc="left", fontsize=9.5, color=FAINT, pad=4)
    if last:
        axes.set_xlabel("slice   (triangles: clicks)", fontsize=9.5, color=FAINT)
