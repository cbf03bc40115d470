"""How fast limnet is: beside its references and other tools, beside the paper's figure, and part by part.

    limnet bench speed --out benchmarks/results              # in ratios to the small model; 6 minutes on two cores
    limnet bench speed --out benchmarks/results --full       # 480 and 512 pixels, 12 minutes
    limnet bench speed --out out/speed --quick               # small images, to see that it works, 1 minute
    limnet bench runtime --out benchmarks/results            # slices/s and peak memory beside the paper's, 1 minute
    limnet bench cost --out benchmarks/results               # parameters, GFLOP and time per click and slice

Wants a machine that does nothing else, and no data: an ellipsoid in noise. Methods take turns, lap by lap; a ratio
divides what was measured in the same lap, so that what slows the machine for a while drops out. Finished laps are kept:
the same command goes on where it was stopped. A method whose package is missing is left out, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.core.pictures import bar_rows
from benchmarks.core.record import Record, Row, command_of
from benchmarks.core.report import markdown, published_runtime
from benchmarks.speed import methods
from benchmarks.speed.methods import (
    FIRST,
    LATER,
    METHODS,
    OPEN,
    OTHER,
    ROUND_FIRST,
    ROUND_LATER,
    SEED,
    SLICE_FIRST,
    SLICE_LATER,
    LimnetMethod,
    scene,
)
from limnet.environment import cpu_model
from limnet.errors import InputError, LimnetError
from limnet.segmenter import InteractiveSegmenter

if TYPE_CHECKING:
    from pandas import DataFrame, Series

HEAVY_SLICES = 7  # depth of the volume for slow methods: a pass over it shows the time of a slice
COMBINED = {"ritm-h32 + xmem": ("ritm-h32", "xmem")}  # clicks of one, slices of the other: the paper's way
CONFIG = ["size", "slices", "threads", "precision"]
RATIOS = (FIRST, LATER, SLICE_FIRST, SLICE_LATER, ROUND_FIRST, ROUND_LATER)
HALVES = ("encode_image", "decode", "remember", "read", "encode_value", "segment")  # as far as networks have them
_WARM = 3  # slices of the scene that is used before the first lap


@dataclass(frozen=True)
class Job:
    """Laps in a process of their own: every method once in every configuration, again and again.

    Methods are keys of `METHODS`. Heavy ones get at most `heavy` slices, and the largest number of threads only.
    `gflop` counts operations, too. After `minutes` (0: never) no lap begins any more, but there are two at least.
    """

    methods: tuple[str, ...]
    size: int = 480
    slices: int = 24
    threads: tuple[int, ...] = (1, 2)
    precisions: tuple[str, ...] = ("fp32", "bf16")
    laps: int = 5
    first: int = 0
    heavy: int = HEAVY_SLICES
    model: str = "limnet-tiny"
    device: str = "cpu"
    gflop: bool = False
    minutes: float = 0.0


def run(job: Job) -> Iterator[Row]:
    """The rows of a job, measured in this process.

    Yields:
        Of every turn: configuration, "method", "lap", "samples" (part -> seconds), "peak" (most resident bytes of the
        process so far), "device_peak" (of torch on a GPU, else None); or "left_out", why a method cannot be used.
    """
    start, made, left_out = time.monotonic(), {}, set()
    on_gpu = torch.device(job.device).type == "cuda"
    turns = list(product(job.threads, job.precisions, job.methods))
    for lap in range(job.first, job.laps):
        if job.minutes and lap >= 2 and time.monotonic() - start > 60 * job.minutes:
            return
        for threads, precision, name in turns:
            heavy = METHODS[name].heavy
            if name in left_out or (heavy and threads < max(job.threads)):
                continue
            depth = min(job.slices, job.heavy) if heavy else job.slices
            row = {"size": job.size, "slices": depth, "threads": threads, "precision": precision}
            row |= {"method": name, "lap": lap}
            torch.set_num_threads(threads)
            try:
                if (name, precision) not in made:
                    method = METHODS[name].make(job.size, precision, job.model, job.device)
                    method(scene(job.size, min(_WARM, depth)))
                    made[name, precision] = method
                if on_gpu:
                    torch.cuda.reset_peak_memory_stats(job.device)
                row |= measured(made[name, precision], scene(job.size, depth), job.gflop)
            except Exception as error:  # whatever an outside package raises, the others go on
                left_out.add(name)
                yield {**row, "left_out": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
                continue
            on_device = int(torch.cuda.max_memory_allocated(job.device)) if on_gpu else None
            yield {**row, "peak": peak_memory(), "device_peak": on_device}


def measured(method: Any, where: methods.Scene, gflop: bool = False) -> Row:
    """Samples of one lap; with `gflop` of limnet's own methods also the halves of the networks and operations."""
    if not gflop or not isinstance(method, LimnetMethod):
        return {"samples": method(where)}
    networks = {"interaction": method.segmenter.interaction, "propagation": method.segmenter.propagation}
    with halves(networks, methods.seconds) as seen:
        samples = {**method(where), **seen}
    with FlopCounterMode(display=False) as counter:

        def operations(work: Callable[[], object], device: str = "") -> float:
            before = counter.get_total_flops()
            work()
            return float(counter.get_total_flops() - before) / 1e9

        counting = LimnetMethod(method.segmenter, method.whole, operations)
        with halves(networks, operations) as seen:
            found = {**counting(where), **seen}
    return {"samples": samples, "gflop": {part: float(np.mean(values)) for part, values in found.items()}}


@contextmanager
def halves(networks: dict[str, Any], clock: Callable[..., float]) -> Iterator[dict[str, list[float]]]:
    """Measure the calls of the halves of networks meanwhile: "interaction: decode" -> one number a call."""
    found: dict[str, list[float]] = {}

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            results: list[Any] = []
            found.setdefault(name, []).append(clock(lambda: results.append(work(*arguments, **options))))
            return results[0]

        return call

    with ExitStack() as stack:
        for role, network in networks.items():
            for half in HALVES:
                if hasattr(network, half):
                    setattr(network, half, watched(f"{role}: {half}", getattr(network, half)))
                    stack.callback(delattr, network, half)
        yield found


def peak_memory() -> int:
    """Most memory this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_own_process(job: Job) -> Iterator[Row]:
    """Rows of a job, measured in a fresh process; they come as they are measured."""
    threads, root = str(max(job.threads)), str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": path}
    command = [sys.executable, "-m", "benchmarks.speed.compare", json.dumps(asdict(job))]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise LimnetError(
            f"the measuring process ended with status {process.returncode}; see its message above. "
            "What was finished is kept: the same command goes on from there"
        )


def laps_of(rows: Iterable[Row]) -> DataFrame:
    """One line per configuration, method, lap and part with the median of its samples; combinations and rounds added.

    A round of 100 slices is put together from a click and 99 slices, except where a method answers with a volume.
    """
    from pandas import DataFrame, concat

    lines = [
        {**{k: row[k] for k in (*CONFIG, "method", "lap")}, "part": part, "seconds": float(np.median(values))}
        for row in rows
        for part, values in row.get("samples", {}).items()
    ]
    frame = DataFrame(lines, columns=[*CONFIG, "method", "lap", "part", "seconds"])
    if frame.empty:
        return frame
    for name, (clicks, slices) in COMBINED.items():
        both = [
            frame[(frame.method == clicks) & frame.part.isin([FIRST, LATER])],
            frame[(frame.method == slices) & frame.part.isin([SLICE_FIRST, SLICE_LATER])],
        ]
        if all(len(some) for some in both):
            frame = concat([frame, concat(both).assign(method=name)])
    wide = frame.pivot_table(index=[*CONFIG, "method", "lap"], columns="part", values="seconds")
    wide = wide.reindex(columns=list(dict.fromkeys([*wide.columns, *RATIOS, OPEN, OTHER])))
    again = wide[OTHER].fillna(wide[LATER])
    wide[ROUND_FIRST] = wide[ROUND_FIRST].fillna(wide[FIRST] + 99 * wide[SLICE_FIRST])
    wide[ROUND_LATER] = wide[ROUND_LATER].fillna(again + 99 * wide[SLICE_LATER])
    return wide.stack().dropna().rename("seconds").reset_index()


def ratios(frame: DataFrame, base: DataFrame, on: Sequence[str]) -> DataFrame:
    """How many times as long something takes as a base measured in the same laps (both of `laps_of`, alike in `on`).

    Quartiles (0.25, 0.5, 0.75) over the laps, by configuration, method and part of `frame`.
    """
    pairs = frame.merge(base, on=[*on, "lap", "part"], suffixes=("", "_base"))
    return quartiles(pairs.assign(seconds=pairs.seconds / pairs.seconds_base), [*CONFIG, "method", "part"])


def quartiles(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    """Quartiles (0.25, 0.5, 0.75) of the seconds of some lines each."""
    return frame.groupby(list(by)).seconds.quantile([0.25, 0.5, 0.75]).unstack()


def spans(found: DataFrame, scale: float = 1.0, digits: int = 2) -> Series[str]:
    """Rows of `quartiles` as text: "median (low-high)"."""
    low, middle, high = (found[q].map(lambda v: f"{scale * v:.{digits}f}") for q in (0.25, 0.5, 0.75))
    return middle + " (" + low + "-" + high + ")"


def speed_tables(rows: Sequence[Row], base: str = "tiny") -> str:
    """Markdown of the rows of several methods: times, and ratios to the base by laps."""
    from pandas import concat

    frame = laps_of(rows)
    parts = [
        "Methods took turns, lap by lap, in one process per size. In brackets, quartiles over the laps. A ratio "
        f"divides what was measured in the same lap: above 1 is slower than {base}.\n"
    ]
    same = [name for name in CONFIG if name != "slices"]  # heavy methods run on fewer
    compared = ratios(frame[frame.method != base], frame[frame.method == base], same)
    order = [name for name in (*METHODS, *COMBINED) if name in set(frame.method)]
    for (size, threads, precision), some in frame.groupby(same, sort=False):
        parts.append(f"## {size} x {size} pixels, {threads} thread{'s' * (threads > 1)}, {precision}\n")
        found = quartiles(some, ["method", "part"])
        here = [name for name in order if name in set(some.method)]
        shown, passes = [OPEN, FIRST, LATER, OTHER], [SLICE_FIRST, SLICE_LATER]
        cells = [some.groupby("method").lap.nunique(), spans(found, 1000, 1).unstack().reindex(columns=shown)]
        cells.append(spans((1 / found).set_axis([0.75, 0.5, 0.25], axis=1)).unstack().reindex(columns=passes))
        head = ["method", "laps", *(f"{part}, ms" for part in shown), "slices/s, first round", "slices/s, later round"]
        parts.append(markdown(head, concat(cells, axis=1).loc[here].reset_index().to_numpy().tolist()))
        alike = compared[[(k[0], k[2], k[3]) == (size, threads, precision) for k in compared.index]]
        if len(alike):
            cells = spans(alike).droplevel(CONFIG).unstack().reindex([n for n in here if n != base], columns=RATIOS)
            table = markdown(["method", *RATIOS], cells.reset_index().to_numpy().tolist())
            parts += [f"Times as long as {base}:\n", table]
    slow = {"fp32 / bf16": ("precision", "fp32", "bf16"), "1 thread / 2 threads": ("threads", 1, 2)}
    lines: list[list[object]] = []
    for what, (column, above, below) in slow.items():
        rest = [name for name in (*CONFIG, "method") if name != column]
        found = ratios(frame[frame[column] == above], frame[frame[column] == below], rest)
        times = spans(found).unstack().reindex(columns=RATIOS[:4]) if len(found) else found
        for (size, _, threads, precision, name), cells in times.iterrows():
            where = f"threads {threads}" if column == "precision" else precision
            lines.append([f"{name}, {size}, {where}", what, *cells])
    if lines:
        parts += ["## Threads and precision: times as long\n", markdown(["method", "ratio of", *RATIOS[:4]], lines)]
    left_out = {row["method"]: row["left_out"] for row in rows if "left_out" in row}
    parts.append("## Methods\n")
    parts += [
        f"- `{name}`: {METHODS[name].title}" + (f". Left out: {left_out[name]}" if name in left_out else "")
        for name in METHODS
        if name in order or name in left_out
    ]
    parts += [f"- `{name}`: clicks of {a}, slices of {b}" for name, (a, b) in COMBINED.items() if name in order]
    parts.append("\nHeavy methods run on few slices, and with the largest number of threads only.")
    return "\n".join(parts) + "\n"


def runtime_table(rows: Sequence[Row], machine: str) -> str:
    """Markdown: rounds of limnet's own methods beside the published figure."""
    theirs, frame = published_runtime(), laps_of(rows)
    lines: list[list[object]] = []
    for key, some in frame.groupby([*CONFIG, "method"], sort=False):
        size, slices, threads, precision, name = key
        spread = quartiles(some, ["part"])
        rates = [  # a round is its click and all other slices; median, slow and fast quartile
            [slices / (spread.loc[click, q] + (slices - 1) * spread.loc[part, q]) for q in (0.5, 0.75, 0.25)]
            for click, part in ((FIRST, SLICE_FIRST), (OTHER, SLICE_LATER))
        ]
        own = [row for row in rows if [row[k] for k in (*CONFIG, "method")] == list(key) and "peak" in row]
        memory = f"{np.median([row['peak'] for row in own]) / 1e9:.2f} GB (process)"
        if all(row["device_peak"] is not None for row in own):
            memory = f"{np.median([row['device_peak'] for row in own]) / 1e9:.2f} GB (GPU), {memory}"
        comparable = (size, slices) == (theirs.size, theirs.slices)
        where = f"{machine}, {threads} thread{'s' * (threads > 1)}, {precision}"
        cells = [f"{middle:.2f} ({low:.2f}-{high:.2f})" for middle, low, high in rates]
        ratio = f"{rates[0][0] / theirs.slices_per_second:.2f}" if comparable else None
        lines.append([f"**{name}**", f"{slices} x {size} x {size}", where, *cells, memory, ratio])
    slices, rate = f"{theirs.slices} x {theirs.size} x {theirs.size}", f"{theirs.slices_per_second:.2f}"
    lines.append([f"{theirs.method} (published)", slices, theirs.device, rate, None, theirs.memory, "1.00"])
    head = ["method", "slices", "on", "slices/s, first round", "slices/s, later round", "peak memory"]
    notes = "\n".join(f"- {caveat}" for caveat in theirs.caveats)
    text = "## Run time\n\nMedians over fresh processes, quartiles in brackets; a round includes its click.\n\n"
    return f"{text}{markdown([*head, 'first round / published'], lines)}\nPublished: {theirs.source}.\n\n{notes}\n"


def cost_tables(rows: Sequence[Row], parameters: dict[str, int]) -> str:
    """Markdown: parameters, then GFLOP and milliseconds of every part, with crops and on whole slices."""
    lines: list[list[object]] = [[role, f"{number / 1e6:.2f} M"] for role, number in parameters.items()]
    lines.append(["all", f"{sum(parameters.values()) / 1e6:.2f} M"])
    text = "## Parameters\n\n" + markdown(["network", "parameters"], lines)
    frame = laps_of(rows)
    for method, some in frame.groupby("method", sort=False):
        configs = list(dict.fromkeys(zip(some.threads, some.precision, strict=True)))
        times = spans(quartiles(some, ["part", "threads", "precision"]), 1000, 1)
        own = [row for row in rows if row["method"] == method and "samples" in row]
        lines = [
            [
                part,
                f"{gflop:.2f}" if (gflop := own[0]["gflop"].get(part)) is not None else "",
                *(times.get((part, *config)) for config in configs),
            ]
            for part in own[0]["samples"]
        ]
        peaks = [max(r["peak"] for r in own if (r["threads"], r["precision"]) == config) for config in configs]
        lines.append(["peak memory of the process, MiB", "", *(f"{peak / 2**20:.0f}" for peak in peaks)])
        text += f"\n## {METHODS[str(method)].title.capitalize()}: ms (quartiles)\n\n"
        heads = [f"{precision}, {threads} thread{'s' * (threads > 1)}" for threads, precision in configs]
        text += markdown(["per", "GFLOP", *heads], lines)
    return text


def main(argv: Sequence[str] | None = None, run: Callable[[Job], Iterable[Row]] = in_own_process) -> None:
    """Measure what is missing in the record of a command (its first word), then write tables and plot."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if unknown := [name for name in args.methods or () if name not in METHODS]:
        raise InputError(f"method {unknown[0]!r} is unknown; there are {', '.join(METHODS)}")
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    where = torch.cuda.get_device_name(args.device) if torch.device(args.device).type == "cuda" else cpu_model()
    fixed = {"model": segmenter.identity, "machine": where, "device": args.device, "seed": SEED}
    about, command = {"analysis": args.command}, command_of(args.command, parser, args)
    record = Record(args.out / f"{args.command}.json", fixed, about, command)
    record.resume(args.fresh)
    record.keep(lambda row: "left_out" not in row)  # a package may be there now
    with record.open():
        measure(record, args, run)
    if args.command == "runtime":
        tables, summary = runtime_table(record.rows, where), {}
    elif args.command == "cost":
        networks = {name: getattr(segmenter, name) for name in ("interaction", "propagation", "quality")}
        summary = {n: sum(p.numel() for p in network.parameters()) for n, network in networks.items() if network}
        tables = cost_tables(record.rows, summary)
    else:
        tables, summary = speed_tables(record.rows), {}
        frame = laps_of(record.rows)
        found = ratios(frame, frame[frame.method == "tiny"], ["size", "threads", "precision"])[0.5].groupby(
            ["method", "part"]
        ).median().unstack()  # fmt: skip
        series = {part: [float(v) for v in found[part]] for part in RATIOS[:4] if part in found}
        bar_rows(record.plot, "Time against limnet's small model", list(found.index), series, "times as long", 1)
    print(record.finish(summary, tables))


def measure(record: Record, args: argparse.Namespace, run: Callable[[Job], Iterable[Row]]) -> None:
    """Run the laps that the record lacks."""
    for job in jobs_of(args):
        wanted = {"size": job.size, "threads": max(job.threads), "method": job.methods[0]}
        wanted |= {"precision": job.precisions[-1]} | ({"slices": job.slices} if args.command == "runtime" else {})
        done = [row["lap"] for row in record.rows if all(row.get(k) == v for k, v in wanted.items())]
        job = replace(job, first=max(job.first, 1 + max(done, default=-1)))
        for row in run(job) if job.first < job.laps else ():
            if "left_out" in row and args.command != "speed":
                raise LimnetError(f"{row['method']} cannot be measured: {row['left_out']}")
            case = f"{row.get('size')} x {row.get('slices')}, {row['threads']} threads, {row['precision']}"
            record.add({"variant": row["method"], "case": case, "object": f"lap {row['lap'] + 1}", **row})
            print(f"{row['method']}, lap {row['lap'] + 1}, threads: {row['threads']}, {row['precision']}"
                  + (f": {row['left_out']}" if "left_out" in row else ""), file=sys.stderr, flush=True)  # fmt: skip


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """What a command measures, by its options."""
    job = Job(tuple(args.methods or METHODS), model=args.model, device=args.device, minutes=args.minutes or 0)
    if args.slices:
        job = replace(job, slices=args.slices)
    threads, precisions, sizes = args.threads, args.precisions, args.sizes or (480,)
    if args.command == "speed":
        job = replace(job, minutes=6.0 if args.minutes is None else args.minutes)
        if args.quick:
            sizes, job = args.sizes or (128,), replace(job, threads=(1,), precisions=("fp32",), laps=2)
            job = replace(job, slices=args.slices or 5, heavy=3)
        if args.full:
            sizes, job = args.sizes or (480, 512), replace(job, minutes=12.0 if args.minutes is None else args.minutes)
        job = replace(job, threads=threads or job.threads, precisions=precisions or job.precisions)
        job = replace(job, laps=args.repeats or job.laps)
        return [replace(job, size=size, minutes=job.minutes / len(sizes)) for size in sizes]
    if args.command == "runtime":
        depth, cores = args.slices or 100, (max(threads or (os.cpu_count() or 1,)),)
        job = replace(job, slices=depth, heavy=depth, threads=cores, precisions=precisions or ("auto",))
        return [
            replace(job, methods=(name,), size=size, first=lap, laps=lap + 1)
            for size in sizes
            for lap in range(args.repeats or 3)
            for name in args.methods or ("tiny", "tiny-whole")
        ]
    job = replace(job, gflop=True, slices=args.slices or 40, heavy=args.slices or 40, laps=args.repeats or 5)
    return [
        replace(job, methods=(name,), size=sizes[0], threads=(number,), precisions=(precision,))
        for name, precision, number in product(
            ("tiny", "tiny-whole"), precisions or ("fp32", "bf16"), threads or (1, 2)
        )
    ]


def build_parser() -> argparse.ArgumentParser:
    """Options of the three commands."""
    parser = argparse.ArgumentParser(
        "limnet bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("speed", "runtime", "cost"))
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for JSON, tables and plot")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="speed: small images, one thread, fp32")
    much.add_argument("--full", action="store_true", help="speed: two sizes")
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id behind 'tiny'")
    names = f"of {', '.join(METHODS)}; comma between, or repeated"
    parser.add_argument("--methods", "--method", action="extend", type=_words, default=[], help=names)
    parser.add_argument("--sizes", "--size", type=_numbers, help="sides of a slice in pixels, comma between")
    parser.add_argument("--slices", type=int, help="slices of the volume (speed 24, runtime 100, cost 40)")
    parser.add_argument("--threads", type=_numbers, help="numbers of threads, comma between")
    kinds = "of fp32, bf16 and auto; comma between, or repeated"
    parser.add_argument("--precisions", "--precision", action="extend", type=_words, default=[], help=kinds)
    parser.add_argument("--repeats", type=int, help="laps at most (speed and cost 5, runtime 3)")
    parser.add_argument("--minutes", type=float, help="speed: time for all; 0 sets no limit (6; --full 12)")
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} came; give numbers of at least 1, comma between")
    return found


if __name__ == "__main__":
    content: Row = json.loads(sys.argv[1])
    given: Row = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    for line in run(Job(**given)):
        print(json.dumps(line), flush=True)
