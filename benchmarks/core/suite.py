"""Suite: what one benchmark runs, that is which objects of which cases, played how; and the tables of what there is.

Nothing of a table is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.report import published_table
from benchmarks.core.rounds import LimnetPredictor, RobotRounds, Rounds, Target, rounds_of
from limnet.datasets.registry import parse_options
from limnet.errors import InputError
from limnet.image.volume import Volume

if TYPE_CHECKING:
    from benchmarks.core.rounds import Predictor
    from limnet.data.dataset import LabelledCase

Grouping = Callable[[str, str], str]


class Entry(NamedTuple):
    """Where something is defined.

    Attributes:
        module: absolute, or relative to `benchmarks`.
        title: one line for the help.
        name: in the module: `build(root, options) -> Suite`, the class of a baseline, or `main(argv)` of an analysis.
        words: what an analysis is told before the options.
    """

    module: str
    title: str
    name: str = "build"
    words: tuple[str, ...] = ()

    def load(self) -> Any:
        """The object itself."""
        return getattr(import_module(self.module, "benchmarks"), self.name)


SUITES: dict[str, Entry] = {
    "open": Entry(".suites.dataset", "the open volumes (a folder with manifest.json)", "build_open"),
    "cvpr25": Entry(".suites.cvpr25", "CVPR 2025 interactive challenge: a box and five clicks"),
    "folder": Entry(".suites.dataset", "own images and masks in a folder", "build_folder"),
    "dataset": Entry(".suites.dataset", "any data set that limnet reads, by --name"),
    "interaction2d": Entry(".suites.interaction2d", "clicks to an IoU on GrabCut, Berkeley, SBD, DAVIS and DAVIS-585"),
    "table1": Entry(".suites.paper", "Table I: KiTS19 kidney and tumour, MSD lung and colon", "table1"),
    "table2": Entry(".suites.paper", "Table II: the same with and without fusion", "table2"),
    "figure3": Entry(".suites.paper", "Figure 3: Table II over ten rounds", "figure3"),
    "table4": Entry(".suites.paper", "Table IV: six organs of BTCV", "table4"),
    "table5": Entry(".suites.paper", "Table V: MSD pancreas tumour and colon cancer", "table5"),
    "table6": Entry(".suites.paper", "Table VI: EndoVis18 test sequences, video", "table6"),
}
NAMED = ("cvpr25", "dataset")
"""Suites that take a data set with options, see `SuiteOptions.dataset`."""

_CLASSICAL, _CARRIED, _OUTSIDE = ".baselines.classical", ".baselines.carried", ".baselines.outside"
BASELINES: dict[str, Entry] = {
    "random-walker": Entry(_CLASSICAL, "random walker, no weights", "RandomWalker"),
    "geodesic": Entry(_CLASSICAL, "geodesic distance, no weights", "GeodesicDistance"),
    "confidence-connected": Entry(_CLASSICAL, "SimpleITK's region growing, no weights", "ConfidenceConnected"),
    "nearest-copy": Entry(_CARRIED, "prompt masks of limnet, copied from the nearest slice", "NearestCopy"),
    "shape-interpolation": Entry(_CARRIED, "prompt masks of limnet, interpolated", "ShapeInterpolation"),
    "optical-flow": Entry(_CARRIED, "prompt masks of limnet, moved by optical flow", "OpticalFlow"),
    "sam": Entry(_OUTSIDE, "SAM, points slice by slice; own weights", "SamPoints"),
    "sam2-video": Entry(_OUTSIDE, "SAM 2 on slices as a video; own weights", "Sam2Video"),
    "nninteractive": Entry(_OUTSIDE, "nnInteractive; own weights", "NnInteractive"),
    "predictions": Entry(
        ".baselines.prediction_folder", "finished predictions of an automatic method", "PredictionFolder"
    ),
}

ANALYSES: dict[str, Entry] = {
    "mrf-rounds": Entry(".analyses.mrf_rounds", "what fusion does round by round", "main"),
    "interaction2d-slices": Entry(".analyses.interaction2d", "the click network alone on slices", "main"),
    "ablations": Entry(".analyses.ablations", "settings changed one by one", "main"),
    "robustness": Entry(".analyses.robustness", "disturbed images and clicks", "main"),
    "suggest": Entry(".analyses.suggest", "correcting the suggested slice", "main"),
    "calibration": Entry(".analyses.calibration", "the quality network's values beside the truth", "main"),
    "border": Entry(".analyses.border", "clicks near the border of the image", "main"),
    "tools": Entry(".analyses.tools", "every tool of the viewer before and after: which one hurts", "main"),
    "learning": Entry(".analyses.learning", "patients of one task, with and without learning", "main"),
    "corruption-figure": Entry(".analyses.corruption_figure", "picture of the six kinds of defects", "main"),
    "speed": Entry(".speed.compare", "time beside references and other tools", "main", ("speed",)),
    "runtime": Entry(".speed.compare", "slices per second and peak memory beside the paper's", "main", ("runtime",)),
    "cost": Entry(".speed.compare", "parameters, GFLOP and time part by part", "main", ("cost",)),
    "latency": Entry(".speed.latency", "how long a person waits on volumes of the size scanners give", "main"),
    "view-latency": Entry(".speed.view_latency", "from a click in the viewer to its pixels", "main"),
}


@dataclass(frozen=True)
class ObjectChoice:
    """Which objects of every case a suite takes.

    Every label is one object, with the labels that are part of it (`LabelledCase.includes`), except those whose name
    holds a word of `components`: there every 26-connected component is one, numbered in array order ("lesion 3").

    Attributes:
        smallest: least number of voxels.
        components: words that mark labels of many separate things.
        per_case: at most that many objects of a case, spread evenly over all of them; None takes all.
        axis: slice axis; None takes the one with the thickest slices, the first of equals; 0 for a single image.
        merge: instead of the labels, objects made of several of them: name -> label ids, such as
            {"kidney": (1, 2), "tumour": (2,)}. Absent ids are no error.

    Raises:
        InputError: `per_case` or `smallest` below 1.
    """

    smallest: int = 300
    components: tuple[str, ...] = ("lesion", "nodule")
    per_case: int | None = None
    axis: int | None = 0
    merge: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if self.smallest < 1 or (self.per_case is not None and self.per_case < 1):
            raise InputError(f"smallest is {self.smallest} and per_case {self.per_case}; give numbers of at least 1")

    def objects(self, case: LabelledCase, volume: Volume) -> Iterator[Target]:
        """Yield the objects of a case with that image by ascending label; groups are the names of labels.

        Raises:
            InputError: labels that are no integer volume.
        """
        array = np.asarray(case.read_labels())
        if array.ndim != 3 or array.dtype.kind not in "iub":
            raise InputError(
                f"labels of {case.name} are {array.dtype} {array.shape}; an integer (D, H, W) map is expected"
            )
        found: list[tuple[str, str, NDArray[Any], tuple[int, ...]]] = []
        for name, ids in self._named(array, case):
            if any(word in name.lower() for word in self.components):
                parts, number = ndimage.label(_where(array, ids), np.ones((3, 3, 3)))
                sizes = np.bincount(parts.ravel(), minlength=number + 1)
                found += [(f"{name} {i}", name, parts, (i,)) for i in range(1, number + 1) if sizes[i] >= self.smallest]
            elif np.count_nonzero(_where(array, ids)) >= self.smallest:
                found.append((name, name, array, ids))
        thickest = 0 if volume.shape[0] == 1 else int(np.argmax(np.round(volume.spacing, 3)))
        axis = thickest if self.axis is None else self.axis
        for i in evenly_spread(len(found), self.per_case):
            name, label, source, ids = found[i]
            yield Target(case.name, name, label, volume, _where(source, ids), axis)

    def _named(self, array: NDArray[Any], case: LabelledCase) -> list[tuple[str, tuple[int, ...]]]:
        """Names, each with its label ids."""
        if self.merge is not None:
            return [(name, tuple(int(i) for i in ids)) for name, ids in self.merge.items()]
        present = [int(i) for i in np.unique(array[array > 0])]
        given = [case.labels.get(i, f"id {i}") for i in present]
        # Label maps with one name for several ids exist; objects need names of their own.
        unique = [n if given.count(n) == 1 else f"{n} (id {i})" for i, n in zip(present, given, strict=True)]
        return [(name, (i, *case.includes.get(i, ()))) for name, i in zip(unique, present, strict=True)]


def evenly_spread(number: int, limit: int | None) -> list[int]:
    """At most `limit` of the indices 0..number-1, first and last included, at even distances."""
    if number == 0:
        return []
    count = number if limit is None else min(limit, number)
    return [int(i) for i in np.unique(np.linspace(0, number - 1, count).round())]


def _where(array: NDArray[Any], ids: tuple[int, ...]) -> NDArray[np.bool_]:
    return array == ids[0] if len(ids) == 1 else np.isin(array, ids)  # the former is several times as fast


@dataclass(frozen=True)
class Suite:
    """A benchmark over a list of cases. Everything in it can be sent to another process.

    Attributes:
        name: its name in the registry and in file names.
        title: what it measures, for reports.
        cases: the cases, in a fixed order; names are unique.
        rounds: how an object is played.
        choice: which objects of a case are taken.
        group: module-level function (or partial of one) from the names of case and object to the group it is
            reported in; by default the label's name.
        choices: case name -> choice, for suites over several data sets; `choice` for all others.
        parts: what decides the numbers besides, as JSON types; becomes part of the configuration.
        variants: settings of limnet models, each run for itself, such as {"tau": 1.0}.
        method: settings that limnet models start from, see `LimnetPredictor.method`.
        limnet: makes the method of a limnet model; takes what `LimnetPredictor` takes.
        scores: "challenge" adds the scores of the CVPR 2025 challenge to reports; "clicks" counts clicks to an IoU.
        published: table of `published.json` whose columns are the groups, if there is one.
        note: what a reader must know about the numbers, printed in reports.
        layered: slices of a case are one picture again and again, each with other objects: an object is segmented on
            its own slice alone.
        root: folder of the data as it was given, for the head of results; it decides nothing.
    """

    name: str
    title: str
    cases: Sequence[LabelledCase]
    rounds: Rounds = field(default_factory=RobotRounds)
    choice: ObjectChoice = field(default_factory=ObjectChoice)
    group: Grouping | None = None
    choices: Mapping[str, ObjectChoice] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ({},)
    method: str = "ours"
    limnet: Callable[..., Predictor] = LimnetPredictor
    scores: str | None = None
    published: str | None = None
    note: str = ""
    layered: bool = False
    root: str | None = None

    def choice_of(self, case: str) -> ObjectChoice:
        """Which objects of a case are taken."""
        return self.choices.get(case, self.choice)

    def played_by(self, predictor: Predictor) -> Suite:
        """This suite with the rounds that the predictor brings, if it does; see `rounds_of`."""
        rounds = rounds_of(predictor, self.rounds)
        return self if rounds is self.rounds else dataclasses.replace(self, rounds=rounds)

    def target(self, found: Target) -> Target:
        """An object in its group, cut to its own slices where `layered`."""
        if self.group is not None:
            found = found._replace(group=self.group(found.case, found.group))
        if not self.layered:
            return found
        there, volume = np.flatnonzero(found.truth.any((1, 2))), found.volume
        cut = slice(int(there[0]), int(there[-1]) + 1)
        own = Volume.from_array(volume.array[cut], volume.spacing, modality=volume.modality)
        return found._replace(volume=own, truth=found.truth[cut])

    def about(self) -> dict[str, Any]:
        """What a reader of the results must know."""
        columns = published_table(self.published).columns if self.published else None
        names = ("title", "published", "note", "scores", "root")
        more = {name: getattr(self, name) for name in names}
        return {"suite": self.name, "cases": len(self.cases), "columns": columns, **more}

    def config(self) -> dict[str, Any]:
        """What decides the numbers, besides the data and the predictor, as JSON types."""
        told = [field.name for field in dataclasses.fields(self.rounds) if field.metadata.get("config", True)]
        found = {
            "suite": self.name,
            "rounds": {"class": type(self.rounds).__name__, **{name: getattr(self.rounds, name) for name in told}},
            "objects": dataclasses.asdict(self.choice),
            **({"parts": dict(self.parts)} if self.parts else {}),
            **({"layered": True} if self.layered else {}),
        }
        return json.loads(json.dumps(found))


@dataclass(frozen=True)
class SuiteOptions:
    """What the command line can change about any suite, by the names of its options; None leaves the suite's own.

    `dataset` names the data set of the suites in `NAMED`; `method` is that of `LimnetPredictor`.
    """

    split: str | None = None
    rounds: int | None = None
    per_case: int | None = None
    per_group: int | None = None
    smallest: int | None = None
    axis: int | None = None
    nsd_mm: float | None = None
    jitter: float | None = None
    seed: int | None = None
    dataset: str | None = None
    parts: tuple[str, ...] = ()
    target: float | None = None
    way: str | None = None
    method: str | None = None

    def played(self, default: RobotRounds) -> RobotRounds:
        """`default` with what these options change."""
        return dataclasses.replace(default, **self._given("rounds", "nsd_mm", "jitter", "seed"))

    def chosen(self, default: ObjectChoice) -> ObjectChoice:
        """`default` with what these options change."""
        return dataclasses.replace(default, **self._given("smallest", "per_case", "axis"))

    def few_of_groups(self, cases: Sequence[LabelledCase], groups: Sequence[str]) -> list[LabelledCase]:
        """The first `per_group` cases of each group; all by default."""
        seen: Counter[str] = Counter()
        kept = []
        for case, group in zip(cases, groups, strict=True):
            seen[group] += 1
            kept += [case] if self.per_group is None or seen[group] <= self.per_group else []
        return kept

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def build_suite(name: str, root: Path, options: SuiteOptions) -> Suite:
    """The suite of a name on the data in a folder; raises InputError on options that it has no use for."""
    entry = _known("benchmark", name, SUITES)
    if options.dataset is not None and name not in NAMED:
        named = " and of ".join(sorted(NAMED, reverse=True))
        raise InputError(f"--name is an option of limnet bench {named}; {name} knows its data sets, leave it out")
    suite: Suite = entry.load()(Path(root), options)
    if set(options.parts) - set(suite.parts):
        there = f"has the parts {', '.join(suite.parts)}" if suite.parts else "has no parts: leave --part out"
        raise InputError(f"--part {' '.join(options.parts)} came, but benchmark {name} {there}")
    if suite.scores != "clicks" and (options.target is not None or options.way is not None):
        raise InputError(f"benchmark {name} does not count clicks on pictures; leave --target and --way out")
    if suite.scores == "clicks" and options.method is not None:
        raise InputError(f"benchmark {name} asks the click network alone; leave --method out")
    return dataclasses.replace(suite, root=str(root), method=options.method or suite.method)


def build_baseline(text: str, defaults: Mapping[str, Any] | None = None) -> Predictor:
    """A baseline from "name" or "name:field=value,..."; values are JSON, anything else and text fields are text.

    `defaults` are values of options that the text leaves out, such as model and device; those that the baseline does
    not have are passed over.
    """
    name = text.partition(":")[0]
    cls = _known("baseline", name, BASELINES).load()
    _, given = parse_options(text, [field.name for field in dataclasses.fields(cls) if field.type in ("str", str)])
    known = [field.name for field in dataclasses.fields(cls)]
    if set(given) - set(known):
        raise InputError(f"baseline {name!r} has the options {', '.join(known) or 'none'}; got {text!r}")
    try:
        return cls(**{**{key: value for key, value in (defaults or {}).items() if key in known}, **given})
    except TypeError as error:
        raise InputError(f"baseline {text!r} could not be made: {error}. Its options are {', '.join(known)}") from error


def _known(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """The entry of a name; raises InputError with names that are close."""
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=2)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise InputError(f"{what} {name!r} is unknown; there are {', '.join(sorted(table))}.{hint}")
