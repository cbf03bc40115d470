"""Plots of results and analyses in one style, small views of objects, and the gallery of the worst of them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.record import Record
from limnet.commands.demo_report import FAINT, INK, bare
from limnet.errors import InputError
from limnet.image.io.atomic import atomic_write
from limnet.image.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7A7A00", "#5B5BD6")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MARGIN = 0.4  # of a view around its object, in shares of its size, on each side
LARGEST = 256  # pixels of a view's side; larger ones are thinned out


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


def draw_rounds(found: Sequence[Record], path: Path) -> Path:
    """Mean Dice (or IoU) after every round, one panel for all objects and one for each group, one line per method."""
    groups: list[str | None] = [None, *sorted({g for results in found for g in results.groups})]
    panels = {}
    for group in groups if len(groups) > 2 else [None]:
        number = max(sum(group in (o["group"], None) for o in results.rows) for results in found)
        panels[f"{group or 'all'} ({number})"] = {results.name: results.curve(group=group) for results in found}
    return line_panels(path, str(found[0].about["title"]), panels, f"mean {found[0].quality_name}", columns=3)


def draw_cases(found: Sequence[Record], path: Path) -> Path:
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
    plain(axes)
    step = 0.8 / len(found)
    for k, results in enumerate(found):
        last = results.last()
        for place, group in enumerate(groups):
            some = [(o["case"], o["object"]) for o in results.rows if o["group"] == group]
            scores = [last[name] for name in some]
            if not scores:
                continue
            middle = place - 0.4 + step * (k + 0.5)
            x = [middle + step * 0.6 * (_spread(*name) - 0.5) for name in some]
            axes.plot(x, scores, "o", color=colour_of(k), markersize=3.5, alpha=0.6, mew=0)
            axes.hlines(float(np.median(scores)), middle - step * 0.4, middle + step * 0.4, color=INK, linewidth=1.4)
    axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(f"{found[0].quality_name} after the last round", color=FAINT)
    _names_below(figure, [results.name for results in found])
    return save_figure(figure, path)


def _spread(case: str, object: str) -> float:
    """A number in 0..1 that belongs to an object: dots lie at the same place for every method."""
    return zlib.crc32(f"{case}/{object}".encode()) / 0xFFFFFFFF


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


def _names_below(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour_of(k), marker=MARKERS[k % len(MARKERS)], linewidth=1.8, label=name)
        for k, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 4), fontsize=9, frameon=False)


class View(NamedTuple):
    """One slice around an object.

    Attributes:
        image: uint8 (H, W) or (H, W, 3), shown as a person would see it.
        truth: bool (H, W).
        mask: bool (H, W).
        aspect: height of a pixel by its width.
        slice: its number along the axis.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    aspect: float
    slice: int


def make_view(volume: Volume, axis: int, truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> View:
    """The slice along `axis` with most wrong pixels (none wrong: where the object is largest), cut to the object.

    Args:
        volume: the image.
        axis: slice axis.
        truth: bool (D, H, W).
        mask: bool (D, H, W).
    """
    others = tuple(a for a in range(3) if a != axis)
    wrong = (truth ^ mask).sum(axis=others)
    index = int(np.argmax(wrong if wrong.any() else truth.sum(axis=others)))
    flat, found = np.take(truth, index, axis), np.take(mask, index, axis)
    cut = _cut(flat | found)
    picture = np.take(volume.array, index, axis)[cut]
    low, high = (
        volume.intensity.default_window
        if volume.is_color
        else volume.intensity.window_around(picture[flat[cut]] if flat[cut].any() else picture)
    )
    shown = np.nan_to_num((picture.astype(np.float32) - low) / max(high - low, 1e-9))
    steps = [volume.spacing[a] for a in others]
    step = max(1, -(-max(flat[cut].shape) // LARGEST))
    thin = (slice(None, None, step), slice(None, None, step))
    image = (shown.clip(0, 1) * 255).round().astype(np.uint8)
    return View(image[thin], flat[cut][thin], found[cut][thin], steps[0] / steps[1], index)


def view_path(out: Path, key: str, case: str, object: str) -> Path:
    """File of an object's view beside the result file; other configurations (`key`) have views of their own."""
    plain = re.sub(r"[^\w.=-]+", "-", f"{case}_{object}")[:120]
    return out.with_suffix("") / f"{plain}_{zlib.crc32(f'{key}/{case}/{object}'.encode()):08x}.npz"


def write_view(path: Path, view: View) -> None:
    """Write a view (some kB); the folder is made if needed.

    Raises:
        SaveError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = view._asdict()

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **content)

    atomic_write(path, save)


def read_view(path: Path) -> View | None:
    """A view, or None where there is no readable one."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return View(data["image"], data["truth"], data["mask"], float(data["aspect"]), int(data["slice"]))
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _cut(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    parts = []
    for axis in (1, 0):
        held = np.flatnonzero(region.any(axis=axis))
        size = region.shape[1 - axis]
        lo, hi = (int(held[0]), int(held[-1]) + 1) if held.size else (0, size)
        margin = max(8, round((hi - lo) * MARGIN))
        parts.append(slice(max(0, lo - margin), min(size, hi + margin)))
    return parts[0], parts[1]


def draw_gallery(results: Record, source: Path, path: Path, number: int = 6) -> Path | None:
    """The objects with the lowest Dice (or IoU) after their last round, each on its worst slice.

    Args:
        results: of one method.
        source: their result file; views lie in the folder beside it.
        path: PNG to write.
        number: how many objects.

    Returns:
        `path`, or None where no views were kept.

    Raises:
        InputError: matplotlib is not installed.
    """
    scores = results.last()
    chosen = []
    for name in sorted(scores, key=lambda n: (scores[n], n)):
        view = read_view(view_path(source, results.key, *name))
        if view is not None:
            chosen.append((name, view))
        if len(chosen) == number:
            break
    if not chosen:
        return None
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(3.4 * columns, 3.5 * rows + 0.5)
    figure.suptitle(f"{results.name}: worst objects. Blue dashes: truth, orange: result", fontsize=10, color=INK)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, ((case, thing), view) in zip(panels, chosen, strict=False):
        axes.imshow(view.image, cmap="gray", vmin=0, vmax=255, aspect=view.aspect, interpolation="nearest")
        for mask, colour, style in ((view.truth, "#56B4E9", "--"), (view.mask, "#E69F00", "-")):
            if mask.any() and not mask.all() and min(mask.shape) > 1:
                axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.3, linestyles=style)
        title = f"{case}\n{thing}, slice {view.slice}: {results.quality_name} {scores[case, thing]:.2f}"
        axes.set_title(title, fontsize=8, color=INK)
    return save_figure(figure, path)
