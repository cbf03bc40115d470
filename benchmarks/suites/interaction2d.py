"""The click network alone on pictures: clicks until an IoU of .85 and .90 is reached (NoC), as RITM counts them.

GrabCut, Berkeley, SBD, DAVIS (345 frames), and DAVIS-585 in its three modes: from nothing ("zero"), from a superpixel
mask ("sp", FocalClick's "from init") and from a video network's mask ("stm"). Pixels that GrabCut and Berkeley leave
undecided (128) are neither clicked nor scored.

Source of clicks and zoom: the evaluation protocol of Sofiiuk et al., "Reviving Iterative Training with Mask Guidance
for Interactive Segmentation", ICIP 2022.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.baselines.zoom import SIZE, THRESHOLD, ZoomSession
from benchmarks.core.record import Record
from benchmarks.core.report import markdown, published_clicks, share
from benchmarks.core.rounds import LimnetPredictor, LimnetSession, Mask, Prompts, Rounds, Target
from benchmarks.core.suite import ObjectChoice, Suite, SuiteOptions
from benchmarks.suites.paper import Part, gather
from limnet.data.dataset import LabelledCase, LabelledDataset
from limnet.data.pictures import PictureDataset, brightness
from limnet.datasets.click_benchmarks import BAND, BerkeleyDataset, Davis345Dataset, GrabCutDataset
from limnet.datasets.davis585 import Davis585Dataset
from limnet.errors import InputError
from limnet.image.slice_view import SliceView
from limnet.image.slices import depth_inside
from limnet.image.volume import Volume
from limnet.interaction.networks.hrnet import HRNetOCR
from limnet.metrics.interaction import clicks_to_quality

QUALITIES = (0.85, 0.90)
"""IoU at which clicks are counted."""

WAYS = ("auto", "window", "zoom")
SHOWN = (1, 2, 3, 5, 10, 15, 20)  # clicks of the table of IoU
Read = Callable[[], NDArray[Any]]

NAME = "interaction2d"
IGNORE = -1  # pixels that are neither clicked nor scored
BANDED = ("grabcut", "berkeley")  # data sets with undecided pixels
ZOOMS = {"davis345": 600}  # RITM's evaluation zooms to 400 pixels, on DAVIS to 600
NOTE = (
    "Clicks by RITM's rule; at most {clicks} an object, which ends at an IoU of {target:g}. A model that "
    "was trained on one of these sets (mix paper-stage1 holds DAVIS-585) has seen its pictures."
)


DAVIS, DAVIS585 = ("DAVIS", "DAVIS345", "davis345"), ("DAVIS585", "DAVIS-585", "davis585")  # folders
PARTS: dict[str, Part] = {
    "grabcut": Part("grabcut", ("GrabCut", "grabcut"), "test", cases=GrabCutDataset.published, title="GrabCut"),
    "berkeley": Part(
        "berkeley", ("Berkeley", "berkeley"), "test", common=True, cases=BerkeleyDataset.published, title="Berkeley"
    ),
    "sbd": Part("sbd", ("SBD", "sbd", "benchmark_RELEASE"), "val", cases=2857, title="SBD"),
    "davis345": Part("davis345", DAVIS, "test", common=True, cases=Davis345Dataset.published, title="DAVIS"),
    **{
        f"davis585-{mode}": Part(
            "davis585", DAVIS585, "all", cases=Davis585Dataset.published, title=f"DAVIS-585 {mode}"
        )
        for mode in ("zero", "sp", "stm")
    },
}
"""Columns of the table; of DAVIS-585 there is one for each thing it starts from."""


def build(root: Path, options: SuiteOptions) -> Suite:
    """All objects of all sets that are there; case names begin with the name of their part."""
    if any(value is not None for value in (options.nsd_mm, options.jitter, options.seed)) or options.axis:
        raise InputError(
            f"{NAME} follows a fixed rule on single pictures; leave --nsd, --jitter, --seed and --axis out"
        )
    cases: list[LabelledCase] = []
    starts: dict[str, Read] = {}
    voids: dict[str, Read] = {}
    found, told = gather(NAME, root, options, PARTS)
    for name, part, dataset, mine in found:
        bands = _bands(dataset) if part.dataset in BANDED else {}
        for case in mine:
            named = dataclasses.replace(case, name=f"{name}_{case.name}")
            cases.append(named)
            if case.name in bands:
                voids[named.name] = bands[case.name]
            if mode_of(name) != "zero" and isinstance(dataset, Davis585Dataset):
                starts[named.name] = partial(read_start, dataset, case, mode_of(name))
    target = ClickRounds.target if options.target is None else options.target
    rounds = ClickRounds(options.rounds or 20, target, starts, voids)
    return Suite(
        name="-".join([NAME, *options.parts]),
        title="Clicks to an IoU on pictures",
        cases=cases,
        rounds=rounds,
        choice=options.chosen(ObjectChoice(smallest=1, components=())),
        group=group_of,
        parts={name: [options.split or part.split, mode_of(name)] for name, part in PARTS.items()},
        limnet=partial(ClickPredictor, way=options.way or "auto", zooms=ZOOMS),
        scores="clicks",
        note=" ".join(filter(None, (NOTE.format(clicks=rounds.clicks, target=rounds.target), told))),
    )


def mode_of(part: str) -> str:
    """What the objects of a part start from: "zero" (nothing), "sp" or "stm"."""
    return part.partition("-")[2] or "zero"


def group_of(case: str, label: str) -> str:
    """Column of a case."""
    return PARTS[case.split("_")[0]].title


def read_band(path: Path) -> NDArray[np.bool_]:
    """Pixels of a mask file that nobody decided, (1, H, W)."""
    return (brightness(path) == BAND)[None]


def read_start(dataset: Davis585Dataset, case: LabelledCase, mode: str) -> NDArray[np.bool_]:
    """The mask a case of DAVIS-585 starts from, (1, H, W)."""
    return dataset.initial(case, mode) > 0


def _bands(dataset: LabelledDataset) -> dict[str, Any]:
    pictures = dataset.files if isinstance(dataset, PictureDataset) else []
    return {picture.name: partial(read_band, picture.masks[0]) for picture in pictures}


def next_click(
    truth: ArrayLike, predicted: ArrayLike, clicked: Iterable[tuple[int, int]] = ()
) -> tuple[int, int, bool]:
    """The click that corrects a prediction (H, W) most, by RITM's rule: row, column, and whether it marks the object.

    The first pixel in row-major order that lies deepest inside the missed object or the false object, whichever is
    deeper; with equal depth the false object wins. Where nothing is wrong: (0, 0, False), every time.

    Args:
        truth: (H, W); 1 is the object, -1 is ignored, anything else is background.
        predicted: (H, W), non-zero is predicted object.
        clicked: (row, column) of earlier clicks, which are not clicked again.
    """
    true, found = np.asarray(truth), np.asarray(predicted).astype(bool)
    inside, counted = true == 1, true != IGNORE
    missed, false = depth_inside(inside & ~found & counted), depth_inside(~inside & found & counted)
    for row, column in clicked:
        missed[row, column] = false[row, column] = 0
    positive = bool(missed.max() > false.max())
    row, column = divmod(int((missed if positive else false).argmax()), true.shape[1])
    return row, column, positive


@dataclass(frozen=True)
class ClickRounds(Rounds):
    """One click a round by RITM's robot: the deepest pixel of the missed or of the surplus pixels, whichever is deeper.

    Distances are exact and Euclidean, the border of the picture is an edge, no pixel is clicked twice. Nothing is
    drawn, so there is no seed. An object ends at `target`. Some start from a flawed mask: the first click corrects it,
    and it is not measured. `RoundRow.lost` looks at IoU here.

    Attributes:
        clicks: greatest number of clicks.
        target: IoU at which an object ends, `QUALITIES`' largest up to 1 (all clicks, until the mask is perfect).
        starts: case -> reads the mask to start from, (1, H, W); others start from nothing.
        voids: case -> reads the pixels that are not scored, bool (1, H, W).

    Raises:
        InputError: a number out of range.
    """

    clicks: int = 20
    target: float = QUALITIES[-1]
    starts: Mapping[str, Read] = field(default_factory=dict, repr=False, metadata={"config": False})
    voids: Mapping[str, Read] = field(default_factory=dict, repr=False, metadata={"config": False})

    def __post_init__(self) -> None:
        if self.clicks < 1:
            raise InputError(f"{self.clicks} clicks came; give at least 1")
        if not QUALITIES[-1] <= self.target <= 1:
            raise InputError(
                f"target is {self.target}; give an IoU from {QUALITIES[-1]} to 1: clicks to it are counted"
            )

    counts_iou = True
    per_slice = False

    def prompts(self, target: Target, mask: Mask, boxes: bool) -> Prompts:
        """See `Rounds.prompts`."""
        truth = target.truth
        if truth.shape[0] != 1 or target.axis != 0:
            raise InputError(
                f"an object of shape {truth.shape} on axis {target.axis} came; clicks go on one picture, (1, H, W)"
            )
        counted = self.scored(target.case)
        wanted = (truth if counted is None else np.where(counted, truth, IGNORE))[0]
        clicked: list[tuple[int, int]] = []
        for _ in range(self.clicks):
            row, column, positive = next_click(wanted, mask[0], clicked)
            clicked.append((row, column))
            mask = yield [((0, row, column), positive)]

    def start(self, case: str) -> Mask | None:
        """See `Rounds.start`."""
        return self.starts[case]() if case in self.starts else None

    def scored(self, case: str) -> Mask | None:
        """See `Rounds.scored`."""
        return ~np.asarray(self.voids[case](), bool) if case in self.voids else None

    def done(self, quality: float) -> bool:
        """See `Rounds.done`."""
        return quality >= self.target


@dataclass(frozen=True)
class ClickPredictor(LimnetPredictor):
    """A model of which only the click network is asked, on pictures (volumes of one slice).

    Attributes:
        way: "window": as limnet works, in windows at the object's scale, with its click rules; "zoom": as RITM is
            evaluated (`benchmarks.baselines.zoom`: mirrored second look, crops from the second click on, fp32), for
            networks with RITM's prompts; "auto": "zoom" for HRNet, else "window".
        zooms: longer side of a zoomed crop by the first part of case names (up to "_"); 400 for all others.

    Raises:
        InputError: another way.
    """

    way: str = "auto"
    zooms: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.way not in WAYS:
            raise InputError(f"way is {self.way!r}; allowed are {', '.join(WAYS)}")

    @property
    def name(self) -> str:
        """The model with what differs from its own settings."""
        return super().name if self.way == "auto" else f"{super().name} {self.way}"

    @property
    def chosen_way(self) -> str:
        """The way the network is asked, "window" or "zoom"; loads the model."""
        if self.way != "auto":
            return self.way
        return "zoom" if isinstance(self.segmenter.interaction, HRNetOCR) else "window"

    def describe(self) -> dict[str, Any]:
        """Configuration with the hash of the weights."""
        found = {**super().describe(), "class": "ClickPredictor", "way": self.chosen_way}
        if self.chosen_way == "zoom":
            zoom = {"size": SIZE, "sizes": dict(self.zooms), "flip": True, "threshold": THRESHOLD}
            found |= {"zoom": zoom, "precision": "fp32"}
        return found

    def start(self, volume: Volume, axis: int, case: str = "", object: str = "") -> LimnetSession | ZoomSession:
        """Open a picture; raises InputError on more than one slice, or a network that cannot be asked this way."""
        if volume.shape[axis] != 1:
            raise InputError(
                f"a volume of shape {volume.shape} came; the click network alone takes pictures, (1, H, W)"
            )
        if self.chosen_way == "window":
            return super().start(volume, axis)
        network: Any = self.segmenter.interaction
        size = self.zooms.get(case.split("_")[0], SIZE)
        return ZoomSession(network, _picture(volume, axis, network.image_channels), size)


def _picture(volume: Volume, axis: int, channels: int) -> NDArray[np.float32]:
    """(channels, H, W) in [0, 1]; bytes by 255, anything else by the automatic window."""
    view = SliceView(volume, axis, (0.0, 255.0) if volume.array.dtype == np.uint8 else None)
    image = view.gray(0) if channels == 1 else view.image(0)
    return np.repeat(image, channels, axis=0) if image.shape[0] < channels else image


def clicks_to(results: Record, quality: float, group: str) -> tuple[int, float, int]:
    """Objects of a group, mean clicks to an IoU (NoC; the limit where it is never reached), how many never do (NoF)."""
    limit = int(results.fixed["config"]["rounds"]["clicks"])
    curves = list(results.table.curves("iou", group).values()) if results.rows else []
    if not curves:
        return 0, math.nan, 0
    counts = [clicks_to_quality(curve, quality, limit) for curve in curves]
    return len(curves), math.fsum(counts) / len(counts), sum(max(curve) < quality for curve in curves)


def click_tables(found: Sequence[Record]) -> str:
    """Markdown of one suite: NoC and NoF by data set beside published rows, IoU after clicks, clicks obeyed, times."""
    published = published_clicks()
    present = {group for results in found for group in results.groups}
    known = [column for column in published.columns if column in present]
    groups = known + sorted(present - set(known))
    limit = max(int(results.fixed["config"]["rounds"]["clicks"]) for results in found)
    parts = [
        f"NoC@q: mean number of clicks until IoU reaches q percent. An object that never does counts as {limit}; in "
        "brackets how many those are (NoF).\n"
    ]
    lines: list[list[object]]
    for quality in QUALITIES:
        percent = f"{100 * quality:.0f}"
        lines = []
        for results in found:
            counts = [clicks_to(results, quality, group) for group in groups]
            cells = [f"{noc:.2f} ({failed})" if objects else "-" for objects, noc, failed in counts]
            lines.append([f"**{results.name}**", *cells])
        for method, at, values in published.rows:
            if at == percent and any(group in values for group in groups):
                cells = [f"{values[group]:.2f}" if group in values else "-" for group in groups]
                lines.append([f"{method} (published)", *cells])
        lines.append(["objects", *(max(clicks_to(r, quality, group)[0] for r in found) for group in groups)])
        parts.append(markdown([f"NoC@{percent}", *groups], lines))
    parts.append("Mean IoU after so many clicks; an object that ended keeps its last value.\n")
    shown = sorted({n for n in (*SHOWN, limit) if n <= limit})
    curves = [(r.name, group, curve) for r in found for group in groups if (curve := r.curve(group=group))]
    lines = [[name, group, *(curve[min(n, len(curve)) - 1] for n in shown)] for name, group, curve in curves]
    parts.append(markdown(["method", "data set", *map(str, shown)], lines))
    head = ["method", "clicks obeyed", "clicks that lost more than .02", "s/click"]
    every = [(r.name, r.summary().get("all", {}), r.median_seconds()) for r in found]
    names = ("compliance", "rounds_lost")
    lines = [[name, *(share(mean.get(n, math.nan)) for n in names), seconds] for name, mean, seconds in every]
    parts.append(markdown(head, lines))
    parts.append(f"Published: {published.source}. They are printed as they are:\n")
    parts.append("".join(f"- {caveat}\n" for caveat in published.caveats))
    return "\n".join(parts)
