"""Gallery of the objects a method did worst on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.core.plots import INK, new_figure, save_figure, shown_quality
from benchmarks.core.results import BenchResults
from benchmarks.core.views import read_view, view_path

_COLUMNS = 3


def draw_gallery(results: BenchResults, source: Path, path: Path, number: int = 6) -> Path | None:
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
    curves = results.table.curves(results.quality)
    scores = {(o["case"], o["object"]): curves[o["case"], o["object"]][-1] for o in results.objects}
    chosen = []
    for name in sorted(scores, key=lambda n: (scores[n], n)):
        view = read_view(view_path(source, results.header["key"], *name))
        if view is not None:
            chosen.append((name, view))
        if len(chosen) == number:
            break
    if not chosen:
        return None
    columns = min(_COLUMNS, len(chosen))
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
        title = f"{case}\n{thing}, slice {view.slice}: {shown_quality([results])} {scores[case, thing]:.2f}"
        axes.set_title(title, fontsize=8, color=INK)
    return save_figure(figure, path)
