"""The tables of benchmarks and of peers: name -> where it is defined. Nothing is imported before it is asked for."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from limnet.datasets.registry import parse_options
from limnet.errors import InputError

if TYPE_CHECKING:
    from benchmarks.core.method import Predictor
    from benchmarks.core.suite import Suite, SuiteOptions


class SuiteEntry(NamedTuple):
    """Where a suite is defined.

    Attributes:
        module: holds `build(root: Path, options: SuiteOptions) -> Suite`.
        title: one line for the help.
        named: whether it takes a data set with options, see `SuiteOptions.dataset`.
    """

    module: str
    title: str
    named: bool = False


class PeerEntry(NamedTuple):
    """Where a peer is defined.

    Attributes:
        module: holds the class.
        cls: its name; a dataclass with the methods of `Predictor`.
        title: one line for the help.
    """

    module: str
    cls: str
    title: str


class AnalysisEntry(NamedTuple):
    """Where an analysis is defined.

    Attributes:
        module: holds `main(argv)`.
        title: one line for the help.
        words: what `main` is told before the options.
    """

    module: str
    title: str
    words: tuple[str, ...] = ()


SUITES: dict[str, SuiteEntry] = {
    "open": SuiteEntry("benchmarks.suites.open", "the open volumes (a folder with manifest.json)"),
    "cvpr25": SuiteEntry("benchmarks.suites.cvpr25", "CVPR 2025 interactive challenge: a box and five clicks", True),
    "folder": SuiteEntry("benchmarks.suites.folder", "own images and masks in a folder"),
    "dataset": SuiteEntry("benchmarks.suites.dataset", "any data set that limnet reads, by --name", True),
    "interaction2d": SuiteEntry(
        "benchmarks.suites.interaction2d", "clicks to an IoU on GrabCut, Berkeley, SBD, DAVIS and DAVIS-585"
    ),
    "table1": SuiteEntry("benchmarks.suites.table1", "Table I: KiTS19 kidney and tumour, MSD lung and colon"),
    "table2": SuiteEntry("benchmarks.suites.table2", "Table II: the same with and without fusion"),
    "figure3": SuiteEntry("benchmarks.suites.figure3", "Figure 3: Table II over ten rounds"),
    "table4": SuiteEntry("benchmarks.suites.table4", "Table IV: six organs of BTCV"),
    "table5": SuiteEntry("benchmarks.suites.table5", "Table V: MSD pancreas tumour and colon cancer"),
    "table6": SuiteEntry("benchmarks.suites.table6", "Table VI: EndoVis18 test sequences, video"),
}

PEERS: dict[str, PeerEntry] = {
    "random-walker": PeerEntry("benchmarks.baselines.classical", "RandomWalkerPeer", "random walker, no weights"),
    "geodesic": PeerEntry("benchmarks.baselines.classical", "GeodesicPeer", "geodesic distance, no weights"),
    "confidence-connected": PeerEntry(
        "benchmarks.baselines.classical", "ConfidenceConnectedPeer", "SimpleITK's region growing, no weights"
    ),
    "nearest-copy": PeerEntry(
        "benchmarks.baselines.carried", "NearestCopyPeer", "prompt masks of limnet, copied from the nearest slice"
    ),
    "shape-interpolation": PeerEntry(
        "benchmarks.baselines.carried", "ShapeInterpolationPeer", "prompt masks of limnet, interpolated"
    ),
    "optical-flow": PeerEntry(
        "benchmarks.baselines.carried", "OpticalFlowPeer", "prompt masks of limnet, moved by optical flow"
    ),
    "sam": PeerEntry("benchmarks.baselines.sam_points", "SamPointsPeer", "SAM, points slice by slice; own weights"),
    "sam2-video": PeerEntry(
        "benchmarks.baselines.sam2_video", "Sam2VideoPeer", "SAM 2 on slices as a video; own weights"
    ),
    "nninteractive": PeerEntry(
        "benchmarks.baselines.nninteractive",
        "NnInteractivePeer",
        "nnInteractive; own weights",
    ),
    "predictions": PeerEntry(
        "benchmarks.baselines.prediction_folder", "PredictionFolderPeer", "finished predictions of an automatic method"
    ),
}


ANALYSES: dict[str, AnalysisEntry] = {
    "compare-peers": AnalysisEntry("benchmarks.analyses.compare_peers", "limnet beside methods without weights"),
    "mrf-rounds": AnalysisEntry("benchmarks.analyses.mrf_rounds", "what fusion does round by round"),
    "interaction2d-slices": AnalysisEntry("benchmarks.analyses.interaction2d", "the click network alone on slices"),
    "ablations": AnalysisEntry("benchmarks.analyses.ablations", "settings changed one by one"),
    "robustness": AnalysisEntry("benchmarks.analyses.robustness", "disturbed images and clicks"),
    "suggest": AnalysisEntry("benchmarks.analyses.suggest", "correcting the suggested slice"),
    "calibration": AnalysisEntry("benchmarks.analyses.calibration", "the quality network's values beside the truth"),
    "border": AnalysisEntry("benchmarks.analyses.border", "clicks near the border of the image"),
    "tools": AnalysisEntry("benchmarks.analyses.tools", "every tool of the viewer before and after: which one hurts"),
    "learning": AnalysisEntry("benchmarks.analyses.learning", "patients of one task, with and without learning"),
    "corruption-figure": AnalysisEntry("benchmarks.analyses.corruption_figure", "picture of the six kinds of defects"),
    "speed": AnalysisEntry("benchmarks.speed", "time beside references and other tools", ("speed",)),
    "runtime": AnalysisEntry("benchmarks.speed", "slices per second and peak memory beside the paper's", ("runtime",)),
    "cost": AnalysisEntry("benchmarks.speed", "parameters, GFLOP and time part by part", ("cost",)),
}


def build_suite(name: str, root: Path, options: SuiteOptions) -> Suite:
    """The suite of a name on the data in a folder.

    Raises:
        InputError: no such suite, or options that it has no use for.
        MissingFileError: the folder does not hold its data.
    """
    if name not in SUITES:
        raise InputError(_unknown("benchmark", name, SUITES))
    if options.dataset is not None and not SUITES[name].named:
        named = " and of ".join(key for key in sorted(SUITES, reverse=True) if SUITES[key].named)
        raise InputError(f"--name is an option of limnet bench {named}; {name} knows its data sets, leave it out")
    suite: Suite = import_module(SUITES[name].module).build(Path(root), options)
    if set(options.parts) - set(suite.parts):
        raise InputError(f"benchmark {name} has the parts {', '.join(suite.parts) or 'none'}; got {options.parts}")
    if suite.scores != "clicks" and (options.target is not None or options.way is not None):
        raise InputError(f"benchmark {name} does not count clicks on pictures; leave --target and --way out")
    if suite.scores == "clicks" and options.method is not None:
        raise InputError(f"benchmark {name} asks the click network alone; leave --method out")
    return dataclasses.replace(suite, root=str(root), method=options.method or suite.method)


def build_peer(text: str, defaults: Mapping[str, Any] | None = None) -> Predictor:
    """A peer from "name" or "name:field=value,field=value"; values are JSON, anything else and text fields are text.

    Args:
        text: name and options.
        defaults: values of options that the text leaves out, such as model and device; those that the peer does not
            have are passed over.

    Raises:
        InputError: no such peer, or no such field.
    """
    name = text.partition(":")[0]
    if name not in PEERS:
        raise InputError(_unknown("peer", name, PEERS))
    entry = PEERS[name]
    cls = getattr(import_module(entry.module), entry.cls)
    _, given = parse_options(text, [field.name for field in dataclasses.fields(cls) if field.type in ("str", str)])
    known = [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    if set(given) - set(known):
        raise InputError(f"peer {name!r} has the options {', '.join(known) or 'none'}; got {text!r}")
    try:
        return cls(**{**{key: value for key, value in (defaults or {}).items() if key in known}, **given})
    except TypeError as error:
        raise InputError(f"peer {text!r} could not be made: {error}. Its options are {', '.join(known)}") from error


def _unknown(what: str, name: str, table: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, table, n=2)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{what} {name!r} is unknown; there are {', '.join(sorted(table)) or 'none yet'}.{hint}"
