"""Run time as the paper states it: slices per second and peak memory at 480 x 480 pixels and 100 slices.

Needs no data: an ellipsoid in noise. A round is a click with its propagation to all slices and, from the second one on,
fusion; nothing ends early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.core.published import published_runtime
from benchmarks.core.studies.record import Record
from benchmarks.core.studies.tables import markdown
from benchmarks.timing.methods import entry_of
from benchmarks.timing.round_time import RoundJob
from benchmarks.timing.scene import SEED
from benchmarks.timing.spread import spread
from benchmarks.timing.worker import in_own_process
from limnet.environment import cpu_model
from limnet.segmenter import InteractiveSegmenter

Row = dict[str, Any]
Runner = Callable[[RoundJob], Iterable[Row]]
_ROUNDS = ("first round", "later round")


def run_runtime(
    out: Path,
    methods: Sequence[str] = ("tiny", "tiny-whole"),
    model: str = "limnet-tiny",
    size: int = 480,
    slices: int = 100,
    repeats: int = 3,
    threads: int = 1,
    precision: str = "auto",
    device: str = "cpu",
    run: Runner = in_own_process,
) -> Path:
    """Measure what `out`/runtime.json does not hold yet, every repeat in a fresh process, methods in turn.

    Args:
        out: folder of runtime.json and runtime.md.
        methods: limnet's own keys of `benchmarks.timing.methods.METHODS`.
        model: zoo name, model folder or Hub id behind "tiny".
        size: side of a slice in pixels.
        slices: depth of the volume.
        repeats: runs per method.
        threads: of torch.
        precision: "fp32", "bf16" or "auto".
        device: where to compute.
        run: gives the rows of a job.

    Returns:
        Path of the table.

    Raises:
        InputError: no such method, or results of another model or machine lie there.
    """
    for method in methods:
        entry_of(method)
    where = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else cpu_model()
    command = f"limnet bench runtime {' '.join(f'--method {m}' for m in methods)} --size {size} --slices {slices}"
    command += f" --repeats {repeats} --threads {threads} --precision {precision} --device {device}"
    identity = InteractiveSegmenter.from_pretrained(model).identity
    record = Record(out, "runtime", command, {"model": identity, "machine": where, "seed": SEED})
    console = Console(stderr=True, highlight=False)
    for repeat in range(repeats):
        for method in methods:
            job = RoundJob(method, size, slices, repeat, threads, precision, model, device)
            if record.has(job.key()):
                continue
            for row in run(job):
                record.add(row)
            console.print(f"{method}, run {repeat + 1} of {repeats}: done", markup=False)
    return record.finish({"runs": runs_of(record.rows)}, runtime_table(record.rows, where))


def runs_of(rows: Iterable[Row]) -> list[Row]:
    """Slices per second (median, quartiles) of every round, and median peaks, by what was run."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    names = ("method", "size", "slices", "threads", "precision", "device")
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    found = []
    for key, some in groups.items():
        rates = {stage: spread([row["slices"] / row["seconds"][stage] for row in some]) for stage in _ROUNDS}
        on_device = [row["device_peak"] for row in some if row["device_peak"] is not None]
        about = dict(zip(names, key, strict=True))
        found.append(
            {
                **about,
                "runs": len(some),
                "slices_per_second": rates,
                "peak": spread([row["peak"] for row in some])["median"],
                "device_peak": spread(on_device)["median"] if on_device else None,
            }
        )
    return found


def runtime_table(rows: Iterable[Row], machine: str) -> str:
    """Markdown: ours beside the published row."""
    theirs = published_runtime()
    head = ["method", "slices", "on", "slices/s, first round", "slices/s, later round", "peak memory"]
    head.append("first round / published")
    lines: list[list[object]] = []
    for run in runs_of(rows):
        rates = run["slices_per_second"]
        memory = f"{run['peak'] / 1e9:.2f} GB (process)"
        if run["device_peak"] is not None:
            memory = f"{run['device_peak'] / 1e9:.2f} GB (GPU), {memory}"
        on = f"{machine}, {run['threads']} thread{'s' * (run['threads'] > 1)}, {run['precision']}"
        comparable = (run["size"], run["slices"]) == (theirs.size, theirs.slices)
        lines.append(
            [
                f"**{run['method']}**",
                f"{run['slices']} x {run['size']} x {run['size']}",
                on,
                *(f"{r['median']:.2f} ({r['low']:.2f}-{r['high']:.2f})" for r in (rates[s] for s in _ROUNDS)),
                memory,
                f"{rates[_ROUNDS[0]]['median'] / theirs.slices_per_second:.2f}" if comparable else None,
            ]
        )
    theirs_slices = f"{theirs.slices} x {theirs.size} x {theirs.size}"
    rate = f"{theirs.slices_per_second:.2f}"
    lines.append([f"{theirs.method} (published)", theirs_slices, theirs.device, rate, None, theirs.memory, "1.00"])
    notes = "\n".join(f"- {caveat}" for caveat in theirs.caveats)
    text = "## Run time\n\nMedians over fresh processes, quartiles in brackets; a round includes its click.\n\n"
    return f"{text}{markdown(head, lines)}\nPublished: {theirs.source}.\n\n{notes}\n"
