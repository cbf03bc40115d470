"""What the analyses share: objects, options, the robot user on a case that can be looked into, rows per variant."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.core import rounds
from benchmarks.core.method import LimnetSession
from benchmarks.core.record import Record, Row
from benchmarks.core.registry import SUITES, build_suite
from benchmarks.core.rounds import Mask, Prompts, Rounds, Scene, Turn, object_seed
from benchmarks.core.suite import Suite, SuiteOptions
from limnet.case.case import Case
from limnet.case.engine import Engine
from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings
from limnet.simulation.clicks import RobotClick, RobotUser
from limnet.training.options import whole

Chooser = Callable[["Mask | None", int], "RobotClick | None"]


class StudyObject(NamedTuple):
    """One object with its image.

    Attributes:
        case: name of its case.
        object: name, unique within the case.
        group: row of the tables it belongs to.
        volume: the image; slices lie along axis 0.
        truth: bool (D, H, W).
    """

    case: str
    object: str
    group: str
    volume: Volume
    truth: NDArray[np.bool_]

    @property
    def number(self) -> int:
        """Number of the object, which seeds what is random about it; the same on every machine."""
        return object_seed(self.case, self.object)


Measure = Callable[[StudyObject], Row]


def study_objects(suite: Suite, only: str = "") -> Iterator[StudyObject]:
    """Objects of a suite in its order; one image is in memory at a time.

    Args:
        suite: with slices along axis 0.
        only: only cases whose name holds this.

    Raises:
        InputError: an object has slices along another axis.
    """
    for case in suite.cases:
        if only not in case.name:
            continue
        volume = case.read_image()
        for found in suite.choice_of(case.name).objects(case, volume):
            if found.axis != 0:
                raise InputError(f"the slices of {case.name} lie along axis {found.axis}; analyses take axis 0")
            group = found.group if suite.group is None else suite.group(case.name, found.group)
            yield StudyObject(case.name, found.object, group, volume, found.mask)


def sweep(record: Record, objects: Iterable[StudyObject], variants: Mapping[str, Measure]) -> None:
    """Measure every object in every variant, as far as the record does not hold it yet.

    Args:
        record: where rows go: variant, case, object, group, voxels, and what the measure gave.
        objects: in the order to go through them.
        variants: name -> gives the entries of a row. An entry "left_out" (a reason) keeps the row out of comparisons.
    """
    console = Console(stderr=True, highlight=False)
    for thing in objects:
        for variant, measure in variants.items():
            key = {"variant": variant, "case": thing.case, "object": thing.object}
            if record.has(key):
                continue
            start = time.perf_counter()
            row = measure(thing)
            record.add({**key, "group": thing.group, "voxels": int(thing.truth.sum()), **row})
            what = row.get("left_out") or " ".join(f"{v:.3f}" for v in row.get("dice", ()))
            took = time.perf_counter() - start
            console.print(f"{thing.case} {thing.object}, {variant}: {what} ({took:.1f} s)", markup=False)


def open_case(
    segmenter: InteractiveSegmenter,
    volume: Volume,
    settings: Settings | None = None,
    window: Sequence[float] | None = None,
    change: Callable[[Engine], Engine] | None = None,
) -> Case:
    """A case as `segmenter.open` makes it, with an engine that may be changed.

    Args:
        segmenter: the model.
        volume: slices along axis 0.
        settings: instead of the model's own.
        window: intensity window in raw units; the product's choice by default.
        change: gets the engine and returns the one to use (a recorded or replaced part).
    """
    chosen = segmenter.settings if settings is None else settings
    engine = segmenter.engine(chosen)
    return Case(change(engine) if change else engine, volume, settings=chosen, window=window)


@dataclass(frozen=True)
class ChosenClicks(Rounds):
    """One click a round as somebody chooses; once there is nothing to correct the mask stays as it is."""

    choose: Chooser = field(repr=False)
    rounds: int = 6

    per_slice = False

    def prompts(self, scene: Scene, mask: Mask) -> Prompts:
        """See `Rounds.prompts`."""
        so_far: Mask | None = None
        for number in range(1, self.rounds + 1):
            click = self.choose(so_far, number)
            so_far = yield [] if click is None else [(click.zyx, click.positive)]


def play(
    case: Case, truth: Mask, number: int, robot: RobotUser | None = None, choose: Chooser | None = None
) -> Iterator[Turn]:
    """Yield every round of the robot user on a case.

    Args:
        case: slices along axis 0.
        truth: bool (D, H, W), not empty.
        number: of rounds.
        robot: the robot user; the customary one by default.
        choose: gives the click from (mask so far or None, number of the round) instead of the robot.
    """
    user = robot or RobotUser(case.volume.spacing)
    how = ChosenClicks(choose or (lambda mask, n: user.next_click(truth, mask, n)), number)
    yield from rounds.play(how, LimnetSession(case), case.volume, truth)


def scores(turns: Sequence[Turn]) -> dict[str, list[float]]:
    """Dice after every round and seconds of every round that had a click, rounded for a row."""
    return {
        "dice": [round(t.row.dice, 4) for t in turns],
        "seconds": [round(t.row.seconds, 3) for t in turns if t.row.zyx is not None],
    }


def dice_by_slice(mask: Mask, truth: Mask) -> NDArray[np.float64]:
    """(D,) Dice of each slice along axis 0; NaN where mask and truth are empty."""
    axes = tuple(range(1, mask.ndim))
    both, total = (mask & truth).sum(axes), mask.sum(axes) + truth.sum(axes)
    return np.where(total > 0, 2.0 * both / np.maximum(total, 1), np.nan)


def study_parser(about: str, rounds: int = 6) -> argparse.ArgumentParser:
    """A parser with the options all analyses share.

    Args:
        about: text of --help, the module's docstring.
        rounds: default of --rounds.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data of the suite")
    parser.add_argument("--suite", choices=sorted(SUITES), default="open", help="default: open, the open volumes")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON, table and plot")
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id")
    parser.add_argument("--split", default="val", help="default: val")
    parser.add_argument("--rounds", type=whole(1), default=rounds, help=f"rounds of one click (default: {rounds})")
    parser.add_argument("--per-file", type=whole(1), help="objects per case, spread evenly; all by default")
    parser.add_argument("--per-group", type=whole(1), help="cases per group; all by default")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is random (default: 0)")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves them as they are")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    return parser


def begin(
    parser: argparse.ArgumentParser, args: argparse.Namespace, name: str, fixed: Mapping[str, Any], stem: str = ""
) -> Record:
    """The record of an analysis: `stem` (by default the name) in the folder --out; sets torch's threads.

    Args:
        parser: of the options.
        args: of the command.
        name: of the command.
        fixed: what all rows share, besides suite, split, seed and rounds.
        stem: of the files.
    """
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    shared = {key: getattr(args, key) for key in ("suite", "split", "seed", "rounds")}
    command = command_of(name, parser, args)
    return Record(args.out, stem or name.replace("-", "_"), command, {**shared, **fixed}, args.fresh)


def objects_of(args: argparse.Namespace) -> Iterator[StudyObject]:
    """The objects the options ask for."""
    options = SuiteOptions(split=args.split, per_case=args.per_file, per_group=args.per_group, axis=0)
    return study_objects(build_suite(args.suite, args.data, options), args.only)


def command_of(name: str, parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command that repeats this run, without paths of this machine and without defaults."""
    parts = [f"limnet bench {name} --data ROOT"]
    for option, value in vars(args).items():
        if option in ("out", "data", "fresh") or value == parser.get_default(option) or value is None:
            continue
        flag = "--" + option.replace("_", "-")
        parts.append(flag if value is True else f"{flag} {_shown(Path(value) if option == 'model' else value)}")
    return " ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)) and type(value).__str__ is object.__str__:
        return ",".join(map(_shown, value))
    return value.name if isinstance(value, Path) else str(value)
