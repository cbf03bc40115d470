"""Laps: every method once in every configuration, again and again; nothing is measured in a block of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch

from benchmarks.timing.methods import Timed, build, entry_of, missing
from benchmarks.timing.scene import Scene, scene

Row = dict[str, Any]
Builder = Callable[[str, int, str, str, str], Timed]
_LEAST = 2  # laps, whatever time they take
_WARM = 3  # slices of the scene that is used before the first lap


class Turn(NamedTuple):
    """One method's turn.

    Attributes:
        lap: from 0.
        threads: of torch.
        precision: "fp32" or "bf16".
        method: key of `METHODS`.
    """

    lap: int
    threads: int
    precision: str
    method: str


@dataclass(frozen=True)
class LapJob:
    """Laps at one size, in one process.

    Attributes:
        size: side of a slice in pixels.
        slices: depth of the volume.
        heavy_slices: depth for methods that are called heavy.
        threads: numbers of threads; heavy methods get the largest one only.
        precisions: of "fp32" and "bf16".
        methods: keys of `METHODS`, in the order of a lap.
        laps: how many.
        model: zoo name, model folder or Hub id behind "tiny".
        device: where to compute.
        done: turns that were measured before.
        seconds: no lap begins that would end later than this if it took as long as the shortest so far (the first one
            also builds and warms up); two laps are always run. 0 sets no limit.
    """

    size: int
    slices: int
    heavy_slices: int
    threads: tuple[int, ...]
    precisions: tuple[str, ...]
    methods: tuple[str, ...]
    laps: int
    model: str = "limnet-tiny"
    device: str = "cpu"
    done: tuple[Turn, ...] = field(default=())
    seconds: float = 0.0

    def turns(self) -> list[Turn]:
        """All turns in their order, done ones left out: laps, in them configurations, in them methods."""
        found = [
            Turn(lap, threads, precision, method)
            for lap in range(self.laps)
            for threads in self.threads
            for precision in self.precisions
            for method in self.methods
            if threads == max(self.threads) or not entry_of(method).heavy
        ]
        return [turn for turn in found if turn not in set(self.done)]

    def depth(self, method: str) -> int:
        """Slices of the volume a method gets."""
        return self.heavy_slices if entry_of(method).heavy else self.slices

    def key(self, turn: Turn) -> Row:
        """What names a turn in kept rows."""
        return {"kind": "lap", "size": self.size, "slices": self.depth(turn.method), **turn._asdict()}

    def to_json(self) -> Row:
        """JSON types, the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Row) -> LapJob:
        """Read what `to_json` gave."""
        lists = {name: tuple(data[name]) for name in ("threads", "precisions", "methods")}
        return cls(**{**data, **lists, "done": tuple(Turn(*turn) for turn in data["done"])})


def run_laps(job: LapJob, builder: Builder = build, clock: Callable[[], float] = time.monotonic) -> Iterator[Row]:
    """Measure all turns of a job, in this process.

    A method that cannot be used gives one row with "left_out", the reason, and none after it.

    Args:
        job: what to measure.
        builder: makes a method, see `benchmarks.timing.methods.build`.
        clock: in seconds, for the limit of time.

    Yields:
        Row of a turn, with "samples": part -> seconds.
    """
    timed: dict[tuple[str, str], Timed] = {}
    warmed: set[tuple[str, str, int]] = set()
    left_out: set[str] = set()
    scenes: dict[int, Scene] = {}
    before = torch.get_num_threads()
    limit = _Limit(job.seconds, clock)
    try:
        for turn in job.turns():
            if limit.reached(turn.lap):
                return
            name, depth = turn.method, job.depth(turn.method)
            if name in left_out:
                continue
            torch.set_num_threads(turn.threads)
            try:
                reason = missing(name) if builder is build else None
                if reason is not None:
                    raise ImportError(reason)
                if (name, turn.precision) not in timed:
                    timed[name, turn.precision] = builder(name, job.size, turn.precision, job.model, job.device)
                method = timed[name, turn.precision]
                if (name, turn.precision, turn.threads) not in warmed:
                    warmed.add((name, turn.precision, turn.threads))
                    method.lap(_scene(scenes, job.size, min(_WARM, depth)))
                samples = method.lap(_scene(scenes, job.size, depth))
            except Exception as error:  # whatever an outside package raises, the others go on
                left_out.add(name)
                text = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
                yield {**job.key(turn), "left_out": " ".join(text.split())[:300]}
                continue
            yield {**job.key(turn), "samples": {part: [float(s) for s in some] for part, some in samples.items()}}
    finally:
        torch.set_num_threads(before)


class _Limit:
    """Tells whether one more lap would take too long."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds, self.clock = seconds, clock
        self.start = self.began = clock()
        self.lap, self.shortest = -1, float("inf")

    def reached(self, lap: int) -> bool:
        """Whether this lap must not begin; asked at every turn."""
        if lap == self.lap:
            return False
        now, first = self.clock(), self.lap < 0
        if not first:  # the first lap of a process also warms up and builds
            self.shortest = min(self.shortest, now - self.began)
        self.lap, self.began = lap, now
        if not self.seconds or first or lap < _LEAST:
            return False
        return now - self.start + self.shortest > self.seconds


def _scene(scenes: dict[int, Scene], size: int, depth: int) -> Scene:
    if depth not in scenes:
        scenes[depth] = scene(size, depth)
    return scenes[depth]


def measured(rows: Sequence[Row], job: LapJob) -> tuple[Turn, ...]:
    """Turns of a job that rows hold already."""
    kept = [row for row in rows if "samples" in row]
    return tuple(
        turn for turn in job.turns() if any(all(r.get(k) == v for k, v in job.key(turn).items()) for r in kept)
    )
