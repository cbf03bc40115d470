"""Picture of the six kinds of defective masks on one real slice, through the liver of an open volume.

    limnet bench corruption-figure --data ROOT --out docs/images/corruptions.png

The slice is enlarged before masks are damaged, so that outlines are as fine as in a 480-pixel slice.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.pictures import FAINT, INK, new_figure
from benchmarks.core.rounds import Mask
from limnet.simulation.corruptions import PAPER, Corruption, corrupt, object_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE, LABEL, SLICE = "train/ts_ct_abdomen.npz", 5, 96  # the liver
WINDOW = (-130.0, 220.0)  # HU
ZOOM = 4
SEED = 7
_KEPT, _ADDED, _LOST = "#2BB58A", "#F0A03C", "#56B4E9"
_TITLES = {
    "add_shapes": "1  shapes added",
    "dilate": "2  dilation",
    "erode": "2  erosion",
    "displace_boundary": "3  boundary displaced",
    "smooth": "4  smoothed",
    "remove_parts": "5  parts removed",
    "merge_shapes": "6  shapes merged",
}


class Panel(NamedTuple):
    """One defective mask: bool (H, W), its title and a line about it."""

    mask: Mask
    title: str
    note: str


def enlarge(mask: Mask) -> Mask:
    """A mask (H, W) `ZOOM` times as large, the steps of its outline rounded."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.6)
    return ndimage.zoom(soft, ZOOM, order=1, grid_mode=True, mode="nearest") > 0.5


def panels(truth: Mask, seed: int) -> list[Panel]:
    """The truth (H, W) and its six kinds of defects, dilation and erosion apart."""
    note = f"{np.count_nonzero(truth)} px, slice {truth.shape[0]} x {truth.shape[1]}"
    return [Panel(truth, "ground truth", note), *(damaged(truth, name, seed) for name in _TITLES)]


def damaged(truth: Mask, name: str, seed: int) -> Panel:
    """The first draw from `seed` on that is of the wanted kind (and operation)."""
    kind = "morphology" if name in ("dilate", "erode") else name
    while True:
        mask, parameters = corrupt(truth, (seed, list(_TITLES).index(name)), {kind: 1.0})
        if kind != "morphology" or getattr(parameters, "operation", "") == name:
            title = f"{_TITLES[name]}   (p = {PAPER[kind]:g}{' for both' if kind == 'morphology' else ''})"
            return Panel(mask, title, describe(parameters))
        seed += 1


def describe(parameters: Corruption) -> str:
    """What was drawn, in a few words."""
    words = {
        "operation": lambda p: f"by {p.distance:.1f} px ({p.iterations} iterations)",
        "cell": lambda p: f"by at most {p.distance:.1f} px",
        "sigma": lambda p: f"sigma {p.sigma:.1f} px",
        "pieces": lambda p: f"{len(p.shapes)} cut out" if p.shapes else f"{len(p.pieces)} pieces",
        "shapes": lambda p: ", ".join(shape.kind for shape in p.shapes),
    }
    return next(say(parameters) for field, say in words.items() if hasattr(parameters, field))


def draw_panel(axes: Axes, gray: NDArray[Any], truth: Mask, panel: Panel) -> None:
    """One defective mask over the slice, the outline of the truth in white."""
    from matplotlib.colors import to_rgb

    axes.imshow(gray, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], interpolation="bilinear")
    tint = np.zeros((*truth.shape, 4))
    for region, colour, alpha in (
        (panel.mask & truth, _KEPT, 0.42),
        (panel.mask & ~truth, _ADDED, 0.62),
        (truth & ~panel.mask, _LOST, 0.5),
    ):
        tint[region] = (*to_rgb(colour), alpha)
    axes.imshow(tint, interpolation="nearest")
    axes.contour(truth, levels=[0.5], colors=["white"], linewidths=1.3)
    axes.axis("off")
    overlap = np.count_nonzero(panel.mask & truth) / np.count_nonzero(panel.mask | truth)
    axes.set_title(panel.title, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=18)
    axes.text(0, 1.025, panel.note, transform=axes.transAxes, fontsize=9, color=FAINT)
    if overlap < 1:
        axes.text(1, 1.025, f"IoU {overlap:.2f}", transform=axes.transAxes, fontsize=9, color=FAINT, ha="right")


def save_small(figure: Figure, path: Path) -> None:
    """Write a PNG of 255 colours, a third of the size of a full one."""
    from PIL import Image

    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    path.parent.mkdir(parents=True, exist_ok=True)
    few = picture.quantize(255, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figure."""
    from matplotlib.patches import Patch

    parser = argparse.ArgumentParser(
        "limnet bench corruption-figure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the open volumes")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    options = parser.parse_args(argv)
    with np.load(options.data / FILE) as volume:
        truth, image = volume["label"][SLICE] == LABEL, volume["image"][SLICE]
    gray = ndimage.zoom(image.astype(np.float32), ZOOM, order=3, grid_mode=True, mode="nearest")
    shown = panels(enlarge(truth), SEED)
    union = np.any([panel.mask for panel in shown], axis=0)
    rows, columns = object_box(union, round(0.05 * max(gray.shape)))
    figure = new_figure(12.4, 6.6 * (rows.stop - rows.start) / (columns.stop - columns.start) + 1.6)
    for axes, panel in zip(figure.subplots(2, 4).ravel(), shown, strict=True):
        draw_panel(axes, gray, shown[0].mask, panel)
        axes.set(xlim=(columns.start, columns.stop - 1), ylim=(rows.stop - 1, rows.start))
    keys = [Patch(color=_KEPT, label="kept"), Patch(color=_ADDED, label="added"), Patch(color=_LOST, label="lost")]
    title = f"white: ground truth   ·   {Path(FILE).stem}, slice {SLICE}, {ZOOM}x enlarged   ·   seed {SEED}"
    figure.legend(handles=keys, loc="outside lower left", ncols=3, frameon=False, fontsize=9, title=title)
    save_small(figure, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")
