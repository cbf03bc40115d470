"""Suite: what one benchmark runs, that is which objects of which cases, played how."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.core.method import LimnetPredictor
from benchmarks.core.rounds import RobotRounds, Rounds, rounds_of
from limnet.data.objects import ObjectChoice

if TYPE_CHECKING:
    from benchmarks.core.method import Predictor
    from limnet.data.dataset import LabelledCase

Grouping = Callable[[str, str], str]


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

    def config(self) -> dict[str, Any]:
        """What decides the numbers, besides the data and the predictor, as JSON types."""
        found = {
            "suite": self.name,
            "rounds": {"class": type(self.rounds).__name__, **_recorded(self.rounds)},
            "objects": dataclasses.asdict(self.choice),
            **({"parts": dict(self.parts)} if self.parts else {}),
            **({"layered": True} if self.layered else {}),
        }
        return json.loads(json.dumps(found))


def _recorded(rounds: Rounds) -> dict[str, Any]:
    fields = dataclasses.fields(rounds)  # type: ignore[arg-type]
    return {field.name: getattr(rounds, field.name) for field in fields if field.metadata.get("config", True)}


@dataclass(frozen=True)
class SuiteOptions:
    """What the command line can change about any suite; None leaves the suite's own.

    Attributes:
        split: split of the data set.
        rounds: number of rounds.
        per_case: at most that many objects of a case, spread evenly.
        per_group: at most that many cases of a group, in the order of the data set.
        smallest: least number of voxels of an object.
        axis: slice axis.
        nsd_mm: tolerance of the surface Dice in mm.
        jitter: clicks are off by up to this many mm.
        seed: of the robot user.
        dataset: which data set, for the suite `dataset`.
        parts: names of the data sets to take, of those that a suite joins.
        target: IoU at which an object ends, where clicks are counted.
        way: how a click network alone is asked, see `benchmarks.suites.interaction2d.ClickPredictor`.
        method: settings that limnet models start from, see `LimnetPredictor.method`.
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

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}
