"""How much Dice is lost when clicks, window, grid or image are worse than they should be.

    limnet bench robustness --data ROOT --out benchmarks/results --model limnet-tiny

Every object is segmented as it is and under each disturbance: clicks moved inside the error they correct, clicks drawn
from the inner half of the error, clicks on the wrong side of its border, errors overlooked; an intensity window shifted
by a quarter, twice as wide or half as wide as the one limnet would choose; every second slice missing (the truth is
then that of the slices left); noise of a given share of the window. Losses are means of differences per object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core import analysis
from benchmarks.core.analysis import Comparison
from benchmarks.core.pictures import bar_rows
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown, signed
from benchmarks.core.rounds import Target, columns
from limnet.errors import LimnetError
from limnet.image.slice_view import SliceView
from limnet.image.volume import Volume
from limnet.segmenter import InteractiveSegmenter
from limnet.simulation.clicks import RobotUser

CLEAN = "as it is"
Window = tuple[float, float]


class Scene(NamedTuple):
    """What a disturbance gives: image, truth, robot, and intensity window (None for limnet's choice)."""

    volume: Volume
    truth: NDArray[np.bool_]
    robot: RobotUser
    window: Window | None = None


Disturbance = Callable[[Target, int], Scene]


def clicking(target: Target, seed: int, **options: Any) -> Scene:
    """A robot with other options (see `RobotUser`); nothing is wrong without any."""
    robot = RobotUser(target.volume.spacing, seed=seed, case=target.number, **options)
    return Scene(target.volume, target.truth, robot)


def windowing(target: Target, seed: int, low: float, high: float) -> Scene:
    """Another window, in widths from the middle of the one limnet would choose at the first click."""
    start, end = chosen_window(target)
    middle, width = (start + end) / 2, end - start
    return clicking(target, seed)._replace(window=(middle + low * width, middle + high * width))


def every_second_slice(target: Target, seed: int) -> Scene:
    """Half of the slices, twice as far apart."""
    depth, *in_plane = target.volume.spacing
    volume = Volume.from_array(target.volume.array[::2], (2 * depth, *in_plane))
    return Scene(volume, target.truth[::2], RobotUser(volume.spacing))


def noise(target: Target, seed: int, sigma: float) -> Scene:
    """Normal noise, `sigma` in shares of the window limnet would choose; values stay in the volume's range and type."""
    low, high = chosen_window(target)
    array = target.volume.array
    rng = np.random.default_rng([seed, target.number])
    noisy = array + rng.normal(0.0, sigma * (high - low), array.shape).astype(np.float32)
    noisy = np.clip(noisy, array.min(), array.max())
    if array.dtype.kind in "iu":
        noisy = noisy.round()
    return clicking(target, seed)._replace(volume=Volume.from_array(noisy.astype(array.dtype), target.volume.spacing))


def chosen_window(target: Target) -> Window:
    """The window limnet chooses at the robot's first click."""
    click = RobotUser(target.volume.spacing).next_click(target.truth, None, 1)
    index, y, x = click.zyx if click is not None else (0, 0, 0)
    return SliceView(target.volume, 0).auto_window(index, (y, x))


def disturbances() -> dict[str, Disturbance]:
    """Name -> disturbance, the clean scene first."""
    return {
        CLEAN: clicking,
        **{f"clicks moved by up to {mm:g} mm": partial(clicking, jitter=mm) for mm in (2.0, 5.0)},
        "clicks anywhere in the inner half": partial(clicking, off_centre=True),
        "one click in five on the wrong side": partial(clicking, wrong_side=0.2),
        "one error in five overlooked": partial(clicking, overlook=0.2),
        "window shifted up by a quarter": partial(windowing, low=-0.25, high=0.75),
        "window shifted down by a quarter": partial(windowing, low=-0.75, high=0.25),
        "window twice as wide": partial(windowing, low=-1.0, high=1.0),
        "window half as wide": partial(windowing, low=-0.25, high=0.25),
        "every second slice missing": every_second_slice,
        **{f"noise, {100 * sigma:g} % of the window": partial(noise, sigma=sigma) for sigma in (0.05, 0.1)},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = analysis.parser_of(__doc__ or "")
    args = parser.parse_args(argv)
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity, "settings": segmenter.settings.to_json()}
    record = analysis.record_of(parser, args, "robustness", fixed)
    wanted = disturbances()
    variants = {name: partial(measure, segmenter, disturb, args.rounds, args.seed) for name, disturb in wanted.items()}
    analysis.analyse(record, args, variants)
    report(record, list(wanted), args.rounds)


def measure(segmenter: InteractiveSegmenter, disturb: Disturbance, rounds: int, seed: int, target: Target) -> Row:
    """One object under a disturbance."""
    scene = disturb(target, seed)
    if not scene.truth.any():
        return {"left_out": "no object left"}
    case = analysis.open_case(segmenter, scene.volume, scene.window)
    return columns(analysis.play_case(case, scene.truth, rounds, scene.robot))


def report(record: Record, variants: Sequence[str], rounds: int) -> None:
    """Table, plot and summary; every disturbance is compared on the objects it shares with the clean scene."""
    shown = analysis.checkpoints(rounds)
    lines: list[list[object]] = []
    summary: dict[str, dict[str, Any]] = {}
    by_group: dict[str, dict[str, float]] = {}
    for variant in variants:
        try:
            pair = Comparison.of(record, list(dict.fromkeys((CLEAN, variant))), rounds)
        except LimnetError:
            if variant == CLEAN:
                raise
            continue
        curve = pair.curve(variant)
        lost = [float(v) for v in np.subtract(pair.curve(CLEAN), curve)]
        summary[variant] = {"objects": pair.count(), "dice": curve, "lost": lost}
        losses = ["-" if variant == CLEAN else signed(lost[r - 1]) for r in shown]
        lines.append([variant, pair.count(), *(curve[r - 1] for r in shown), *losses])
        by_group[variant] = {g: pair.curve(CLEAN, g)[-1] - pair.curve(variant, g)[-1] for g in pair.groups}
    head = ["disturbance", "objects", *(f"round {r}" for r in shown), *(f"lost after {r}" for r in shown)]
    page = "## Mean Dice, and Dice lost to the disturbance\n\n" + markdown(head, lines)
    groups = list(dict.fromkeys(group for found in by_group.values() for group in found))
    disturbed = [v for v in summary if v != CLEAN]
    page += f"\n## Dice lost after {rounds} rounds, by group\n\n"
    page += markdown(["disturbance", *groups], [[v, *(by_group[v].get(g) for g in groups)] for v in disturbed])
    if disturbed:
        series = {f"round {r}": [summary[v]["lost"][r - 1] for v in disturbed] for r in shown}
        bar_rows(record.plot, "Dice lost to a disturbance", disturbed, series, "mean Dice lost")
    print(record.finish({"disturbances": summary}, page))
