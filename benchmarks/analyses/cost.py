"""What limnet costs at 480 x 480: parameters, GFLOP and time of a click and of a propagated slice, peak memory.

    limnet bench cost --out benchmarks/results --model limnet-tiny

An ellipsoid in noise, sweeps over all slices (scope volume, no early stop). "windows" is limnet as it works, on windows
at the object's scale; "whole slices" feeds 480 x 480 pixels to every network, as the budgets are stated. Every
precision and number of threads runs in a process of its own; peak memory is that process's. Times are medians of
`--repeats` fresh cases after a warm-up, with quartiles. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.core.studies.options import command_of
from benchmarks.core.studies.play import dice, open_case
from benchmarks.core.studies.plots import bar_rows
from benchmarks.core.studies.record import Record
from benchmarks.core.studies.tables import markdown
from benchmarks.timing.memory import peak_memory
from benchmarks.timing.scene import scene
from benchmarks.timing.spread import spread
from benchmarks.timing.whole_slices import whole_slices
from limnet.engine import Engine
from limnet.segmenter import InteractiveSegmenter
from limnet.settings import Settings
from limnet.volume import Volume

FIRST, LATER = "first click (finds the scale)", "later click, same slice"
SLICE_FIRST, SLICE_LATER = "slice, first round", "slice, later round"
SCENES = ("windows", "whole slices")
# Halves of the networks, as far as they have them.
HALVES = {
    "interaction": ("encode_image", "decode"),
    "propagation": ("encode_image", "remember", "read", "encode_value", "segment"),
}


def build_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON, table and plot")
    parser.add_argument("--size", type=int, default=480, help="side of a slice in pixels (default: 480)")
    parser.add_argument("--slices", type=int, default=40, help="slices of the volume (default: 40)")
    parser.add_argument("--repeats", type=int, default=5, help="fresh cases measured (default: 5)")
    parser.add_argument("--precisions", default="fp32,bf16", help="comma between (default: fp32,bf16)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, comma between (default: 1,2)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every configuration that is missing in a process of its own, then write table and plot."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.worker:
        torch.set_num_threads(int(args.threads))
        print(json.dumps(cost(args.model, args.precisions, args.size, args.slices, args.repeats)))
        return
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    fixed = {"model": segmenter.identity, "size": args.size, "slices": args.slices, "repeats": args.repeats}
    record = Record(args.out, "cost", command_of("cost", parser, args), fixed)
    for precision in args.precisions.split(","):
        for threads in map(int, args.threads.split(",")):
            key = {"precision": precision, "threads": threads}
            if not record.has(key):
                record.add({**key, **in_own_process(args, precision, threads)})
                print(f"{precision}, {threads} threads: done", file=sys.stderr, flush=True)
    report(record, segmenter)


def in_own_process(args: argparse.Namespace, precision: str, threads: int) -> dict[str, Any]:
    """What `cost` gives in a fresh process with that many threads."""
    command = [sys.executable, __file__, "--worker", "--model", args.model, "--out", str(args.out)]
    command += ["--size", str(args.size), "--slices", str(args.slices), "--repeats", str(args.repeats)]
    command += ["--precisions", precision, "--threads", str(threads)]
    number = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env={**os.environ, **number}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def cost(model: str, precision: str, size: int, slices: int, repeats: int) -> dict[str, Any]:
    """Times, GFLOP and peak memory (bytes) of one configuration, in this process."""
    segmenter = InteractiveSegmenter.from_pretrained(model, precision=precision)
    loaded = peak_memory()
    volume, truth = scene(size, slices)
    found: dict[str, Any] = {}
    for name in SCENES:  # the lighter one first: peak memory only grows
        with whole_slices(segmenter, size if name == SCENES[1] else 0) as settings:
            one_case(segmenter, settings, volume, truth)
            times = [one_case(segmenter, settings, volume, truth) for _ in range(repeats)]
            found[name] = {"seconds": {k: spread([t[k] for t in times]) for k in times[0]}, "memory": peak_memory()}
            found[name]["gflop"] = flops(segmenter, settings, volume, truth)
    return {"scenes": found, "loaded": loaded}


def one_case(
    segmenter: InteractiveSegmenter,
    settings: Settings,
    volume: Volume,
    truth: NDArray[np.bool_],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Two rounds on a fresh case.

    Args:
        segmenter: the model.
        settings: of the case.
        volume: the image.
        truth: bool (D, H, W).
        clock: what to take differences of: seconds, or operations.

    Returns:
        Per click, per slice, per call of a half network; and "dice" after both rounds.
    """
    meter = Meter(clock)
    depth, size = truth.shape[0], truth.shape[1]
    middle, later = depth // 2, depth // 4

    def metered(engine: Engine) -> Engine:
        return engine if engine.assessor is None else replace(engine, assessor=meter.around(engine.assessor))

    case = open_case(segmenter, volume, settings, change=metered)
    with meter.halves(segmenter.interaction, "interaction"), meter.halves(segmenter.propagation, "propagation"):
        result = {FIRST: meter.of(lambda: case.click((middle, size // 2, size // 2), propagate=False))}
        edge = int(np.flatnonzero(truth[middle, size // 2])[0]) + 2
        result[LATER] = meter.of(lambda: case.click((middle, size // 2, edge), propagate=False))
        result[SLICE_FIRST] = meter.of(case.propagate) / (depth - 1)
        case.click((later, *map(int, np.argwhere(truth[later]).mean(0).round())), propagate=False)
        result[SLICE_LATER] = meter.of(case.propagate) / (depth - 2)
    return {**result, **meter.per_call(), "dice": dice(case.mask, truth)}


class Meter:
    """Adds up a clock over the calls of functions.

    Args:
        clock: what to take differences of.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.total: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def of(self, work: Callable[[], object]) -> float:
        """The clock's difference over one call."""
        start = self.clock()
        work()
        return self.clock() - start

    def wrap(self, name: str, work: Callable[..., Any], size: Callable[..., int] = lambda *_: 1) -> Callable[..., Any]:
        """The function, metered; a call counts as `size` of its arguments."""

        def metered(*arguments: Any, **options: Any) -> Any:
            start = self.clock()
            result = work(*arguments, **options)
            self.total[name] = self.total.get(name, 0.0) + self.clock() - start
            self.calls[name] = self.calls.get(name, 0) + size(*arguments)
            return result

        return metered

    @contextmanager
    def halves(self, network: nn.Module, role: str) -> Iterator[None]:
        """Meter the methods of a network in `HALVES` meanwhile."""
        wrapped = [name for name in HALVES[role] if hasattr(network, name)]
        for name in wrapped:
            setattr(network, name, self.wrap(f"{role}: {name}", getattr(network, name)))
        try:
            yield
        finally:
            for name in wrapped:
                delattr(network, name)

    def around(self, assessor: Any) -> Any:
        """An assessor whose comparisons and scores are metered per slice."""

        class Metered:
            compare = staticmethod(self.wrap("fusion: compare, per slice", assessor.compare, lambda _, i, *r: len(i)))
            quality = staticmethod(self.wrap("quality, per slice", assessor.quality, lambda _, i, *r: len(i)))

        return Metered()

    def per_call(self) -> dict[str, float]:
        """Mean of every metered function per call."""
        return {name: self.total[name] / max(self.calls[name], 1) for name in self.total}


def flops(
    segmenter: InteractiveSegmenter, settings: Settings, volume: Volume, truth: NDArray[np.bool_]
) -> dict[str, float]:
    """`one_case` in GFLOP (a multiplication and an addition are two operations)."""
    with FlopCounterMode(display=False) as counter:
        return one_case(segmenter, settings, volume, truth, lambda: counter.get_total_flops() / 1e9)


def report(record: Record, segmenter: InteractiveSegmenter) -> None:
    """Tables, plot and summary."""
    rows = record.rows
    networks = {"interaction": segmenter.interaction, "propagation": segmenter.propagation}
    if segmenter.quality is not None:
        networks["quality"] = segmenter.quality
    parameters = {role: sum(p.numel() for p in network.parameters()) for role, network in networks.items()}
    lines = [[role, f"{number / 1e6:.2f} M"] for role, number in parameters.items()]
    lines.append(["all", f"{sum(parameters.values()) / 1e6:.2f} M"])
    tables = "## Parameters\n\n" + markdown(["network", "parameters"], lines)
    heads = [f"{row['precision']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}" for row in rows]
    for name in SCENES:
        scenes = [row["scenes"][name] for row in rows]
        tables += f"\n## {name.capitalize()}: ms (quartiles), slices of {record.fixed['size']} pixels\n\n"
        lines = []
        for what in scenes[0]["seconds"]:
            if what != "dice":
                gflop = f"{scenes[0]['gflop'].get(what, float('nan')):.2f}"
                lines.append([what, gflop, *(_shown(s["seconds"][what]) for s in scenes)])
        lines.append(["slices / s, first round", "", *(_rate(s, SLICE_FIRST) for s in scenes)])
        lines.append(["slices / s, later round", "", *(_rate(s, SLICE_LATER) for s in scenes)])
        lines.append(["peak memory, MiB", "", *(f"{s['memory'] / 2**20:.0f}" for s in scenes)])
        lines.append(["Dice, to see that it works", "", *(f"{s['seconds']['dice']['median']:.3f}" for s in scenes)])
        tables += markdown(["per", "GFLOP", *heads], lines)
    memory = ", ".join(f"{row['loaded'] / 2**20:.0f}" for row in rows)
    tables += f"\nPeak memory is the whole process's, with Python and libraries; after loading it was {memory} MiB.\n"
    parts = (FIRST, LATER, SLICE_FIRST, SLICE_LATER)
    names = [f"{part}, {name}" for name in SCENES for part in parts]
    series = {
        head: [1000 * row["scenes"][name]["seconds"][part]["median"] for name in SCENES for part in parts]
        for head, row in zip(heads, rows, strict=True)
    }
    title = f"Time at {record.fixed['size']} x {record.fixed['size']}"
    bar_rows(record.plot, title, names, series, "milliseconds, median", digits=1)
    print(record.finish({"parameters": parameters}, tables).read_text(encoding="utf-8"))


def _shown(found: dict[str, float]) -> str:
    return f"{1000 * found['median']:.1f} ({1000 * found['low']:.1f}-{1000 * found['high']:.1f})"


def _rate(found: dict[str, Any], part: str) -> str:
    return f"{1 / found['seconds'][part]['median']:.1f}"


if __name__ == "__main__":
    main()
