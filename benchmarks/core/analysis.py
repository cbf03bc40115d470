"""The skeleton of the analyses: options, objects, a case that can be looked into, and the comparison of variants."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.record import Record, Row, command_of
from benchmarks.core.report import markdown
from benchmarks.core.rounds import Chooser, ChosenRounds, LimnetSession, Mask, Session, Target, Turn, play
from benchmarks.core.run import Measure, measure_all, run, teller
from benchmarks.core.suite import SUITES, SuiteOptions, build_suite
from limnet.case.case import Case
from limnet.errors import LimnetError
from limnet.image.volume import Volume
from limnet.segmenter import InteractiveSegmenter
from limnet.simulation.clicks import RobotUser
from limnet.training.options import whole

ALL = "all"


def parser_of(about: str, rounds: int = 6, suites: bool = True, roots: str | None = None) -> argparse.ArgumentParser:
    """A parser with the options that analyses share; `about` is the module's docstring, 0 rounds leave --rounds out."""
    parser = argparse.ArgumentParser(
        "limnet bench", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, nargs=roots, required=True, help="folder with the data")
    add("--out", type=Path, required=True, help="folder for JSON, table and plot")
    add("--model", default="limnet-tiny", help="zoo name, model folder or Hub id")
    if rounds:
        add("--rounds", type=whole(1), default=rounds, help=f"rounds of one click (default: {rounds})")
    add("--seed", type=int, default=0, help="seed of what is random (default: 0)")
    add("--threads", type=whole(0), default=0, help="threads of torch; 0 leaves them as they are")
    add("--fresh", action="store_true", help="measure again what is there")
    add("--split", default="val", help="default: val")
    if suites:
        add("--suite", choices=sorted(SUITES), default="open", help="default: open, the open volumes")
        add("--per-case", "--per-file", type=whole(1), help="objects per case, spread evenly; all by default")
        add("--per-group", type=whole(1), help="cases per group; all by default")
        add("--only", default="", help="only cases whose name holds this")
    return parser


def record_of(
    parser: argparse.ArgumentParser, args: argparse.Namespace, name: str, fixed: Mapping[str, Any], stem: str = ""
) -> Record:
    """The record of an analysis with what earlier runs measured; sets torch's threads.

    `fixed` is what all rows share besides suite, split, seed and rounds; `stem` names the files in --out, by default
    `name` does.
    """
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    shared = {key: getattr(args, key) for key in ("suite", "split", "seed", "rounds") if hasattr(args, key)}
    path = args.out / f"{stem or name.replace('-', '_')}.json"
    record = Record(path, {**shared, **fixed}, {"analysis": name}, command_of(name, parser, args))
    record.resume(args.fresh)
    return record


def analyse(record: Record, args: argparse.Namespace, variants: Mapping[str, Measure]) -> None:
    """Measure the objects the options ask for in all variants, as far as they are not measured yet."""
    options = SuiteOptions(split=args.split, per_case=args.per_case, per_group=args.per_group, axis=0)
    suite = build_suite(args.suite, args.data, options)
    wanted = [i for i, case in enumerate(suite.cases) if args.only in case.name]
    with record.open():
        run(record, suite, variants, teller(), wanted)


def analyse_targets(record: Record, targets: Iterable[tuple[Target, Mapping[str, Measure]]]) -> None:
    """The same for objects that are no benchmark's."""
    with record.open():
        tell = teller()
        for target, variants in targets:
            measure_all(record, target, variants, tell)


def open_case(segmenter: InteractiveSegmenter, volume: Volume, window: Sequence[float] | None = None) -> Case:
    """A case as `segmenter.open` makes it, of a volume with slices along axis 0; `window` is in raw units."""
    return Case(segmenter.engine(), volume, settings=segmenter.settings, window=window)


def play_case(
    case: Case,
    truth: Mask,
    rounds: int,
    robot: RobotUser | None = None,
    choose: Chooser | None = None,
    session: Session | None = None,
) -> Iterator[Turn]:
    """Yield every round of the simulated user (the customary one by default) on a case with slices along axis 0.

    `choose` gives the click from (mask so far or None, number of the round) instead; `session` answers in place of the
    case.
    """
    user = robot or RobotUser(case.volume.spacing)
    how = ChosenRounds(choose or (lambda mask, number: user.next_click(truth, mask, number)), rounds)
    return play(how, session or LimnetSession(case), Target("", "", "", case.volume, truth))


def ratio(rows: Sequence[Row], name: str) -> float:
    """Share of what rows have counted as [how many did, of how many]; NaN of none."""
    done, of = (sum(row[name][i] for row in rows) for i in (0, 1))
    return done / of if of else float("nan")


def dice_by_slice(mask: Mask, truth: Mask) -> NDArray[np.float64]:
    """(D,) Dice of each slice along axis 0; NaN where mask and truth are empty."""
    axes = tuple(range(1, mask.ndim))
    both, total = (mask & truth).sum(axes), mask.sum(axes) + truth.sum(axes)
    return np.where(total > 0, 2.0 * both / np.maximum(total, 1), np.nan)


def checkpoints(rounds: int) -> tuple[int, ...]:
    """The rounds that tables show: 1, 3 and 6, as far as there are so many, and the last."""
    return tuple(sorted({r for r in (1, 3, 6, rounds) if r <= rounds}))


def full(values: Sequence[float], rounds: int) -> list[float]:
    """Values of all rounds: an object that ended keeps its last one."""
    return [*values, *[values[-1]] * (rounds - len(values))]


def mean_curve(scores: Sequence[Sequence[float]], rounds: int) -> list[float]:
    """Mean of objects' values after every round; empty without objects."""
    return [float(v) for v in np.mean([full(values, rounds) for values in scores], axis=0)] if scores else []


def groups_of(rows: Iterable[Row]) -> list[str]:
    """Groups in the order of the rows, and `ALL` at the end; `ALL` alone where there is but one."""
    found = list(dict.fromkeys(str(row["group"]) for row in rows))
    return [*found, ALL] if len(found) > 1 else [ALL]


def of_group(rows: Iterable[Row], group: str) -> list[Row]:
    """The rows of a group; all of them for `ALL`."""
    return [row for row in rows if group in (row["group"], ALL)]


class Comparison(NamedTuple):
    """Variants (in the order of tables) on the objects that all of them have, by group."""

    rows: list[Row]
    variants: Sequence[str]
    rounds: int

    @classmethod
    def of(cls, record: Record, variants: Sequence[str], rounds: int) -> Comparison:
        """Those of a record; objects that a variant failed on or left out are in none.

        Raises:
            LimnetError: there are no such objects.
        """
        having: dict[tuple[str, str], set[str]] = {}
        for row in record.rows:
            if "left_out" not in row:
                having.setdefault((row["case"], row["object"]), set()).add(row["variant"])
        shared = {name for name, found in having.items() if found.issuperset(variants)}
        rows = [r for r in record.rows if (r["case"], r["object"]) in shared and r["variant"] in variants]
        if not rows:
            reason = f", first: {record.errors[0]['error']}" if record.errors else ""
            raise LimnetError(f"no object was finished by all of {', '.join(variants)}{reason}; nothing to compare yet")
        return cls(rows, variants, rounds)

    @property
    def groups(self) -> list[str]:
        """Groups in the order of the rows, and all."""
        return groups_of(self.rows)

    def some(self, variant: str, group: str = ALL) -> list[Row]:
        """Rows of a variant."""
        return [row for row in of_group(self.rows, group) if row["variant"] == variant]

    def curve(self, variant: str, group: str = ALL) -> list[float]:
        """Mean Dice after every round."""
        return mean_curve([row["dice"] for row in self.some(variant, group)], self.rounds)

    def count(self, group: str = ALL) -> int:
        """Number of objects."""
        return len(self.some(self.variants[0], group))

    def curves(self) -> dict[str, dict[str, Any]]:
        """By group: number of objects and mean Dice of every variant, for a summary."""
        return {
            g: {"objects": self.count(g), "dice": {v: self.curve(v, g) for v in self.variants}} for g in self.groups
        }

    def panels(self) -> dict[str, dict[str, list[float]]]:
        """The curves, for `line_panels`."""
        return {f"{g} ({found['objects']})": found["dice"] for g, found in self.curves().items()}

    def table(
        self,
        name: str,
        head: Sequence[str] = (),
        cells: Callable[[str, str], Sequence[object]] = lambda group, variant: (),
        shown: Sequence[int] = (),
        unit: str = "round",
    ) -> str:
        """Markdown: a line for each group and variant, with mean Dice after some rounds and further `cells`.

        `name` heads the column of variants, `head` further columns; `unit` is what rounds are called.
        """
        shown = shown or checkpoints(self.rounds)
        lines: list[list[object]] = []
        for group in self.groups:
            for variant in self.variants:
                curve = self.curve(variant, group)
                means = [curve[r - 1] for r in shown]
                lines.append([group, self.count(group), variant, *means, *cells(group, variant)])
        return markdown(["group", "objects", name, *(f"{unit} {r}" for r in shown), *head], lines)
