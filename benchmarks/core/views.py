"""Views: one small picture per object, the slice with most errors at the end; the gallery of the worst of them."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.plots import INK, new_figure, save_figure
from benchmarks.core.results import BenchResults
from limnet.image.io.atomic import atomic_write
from limnet.image.volume import Volume

MARGIN = 0.4  # of the object's size, on each side
_COLUMNS = 3
LARGEST = 256  # pixels of a side; larger views are thinned out


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
        title = f"{case}\n{thing}, slice {view.slice}: {results.quality_name} {scores[case, thing]:.2f}"
        axes.set_title(title, fontsize=8, color=INK)
    return save_figure(figure, path)
