"""How long a person waits, on volumes of the size scanners give: first answer, rounds, corrections, memory.

    limnet bench latency --quick                                         # one kidney, half a minute
    limnet bench latency --volume ct,large,deep --against ../before/src  # beside another version of limnet
    limnet bench latency --volume ct --threads 1,2 --precision fp32,bf16 --busy 0,1,2
    limnet bench latency --files                                         # opening a file

Volumes are made from the demo's CT: `ct` 336 x 404 x 488 voxels of 1.0 x 0.75 x 0.75 mm, `large` 1000 x 512 x 512 of
0.5 mm (mirrored where the body ends), `deep` the same kidney in 128 to 1024 slices. A robot clicks: in the middle of
the object on its largest slice, then in the middle of the largest error on the worst slice. The first answer is the
first time `on_update` tells of the clicked slice. Every version, number of threads and precision has a process of its
own; versions take turns object by object, the one that is not at work stopped. The first object of a process is the
cold one. Rows are kept in latency.json: later runs add theirs, and replace those of the same measurement. What other
tools take beside limnet is measured by `limnet bench speed`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.core.pictures import bar_rows
from benchmarks.core.record import Record, Row
from benchmarks.core.report import markdown
from limnet.environment import command_line
from limnet.errors import InputError, LimnetError
from limnet.image.volume import Volume
from limnet.simulation.demo import fetch_ct

SOURCE = Path(__file__).resolve().parents[2] / "src"
DEPTHS = (128, 256, 512, 1024)
CONFIG = ("version", "volume", "threads", "precision", "busy", "session")
PARTS = {"first round": slice(0, 1), "correction": slice(1, None)}  # of the rounds
DIE = "import ctypes; ctypes.CDLL(None).prctl(1, 9)"  # with the process that started this one (Linux)
CACHE = Path(tempfile.gettempdir()) / "limnet-latency"


def volume_names(text: str) -> list[str]:
    """Names of a comma list; `deep` stands for all its depths."""
    names = [n for name in text.split(",") for n in ([f"deep-{d}" for d in DEPTHS] if name == "deep" else [name])]
    unknown = [n for n in names if n not in ("ct", "large") and not n.startswith("deep-")]
    if unknown:
        raise InputError(f"volume {unknown[0]!r} is unknown; there are ct, large and deep")
    return names


def prepare(name: str, cache: Path) -> Path:
    """Folder with volume.npy, about.json and one file per structure (its box and voxels); made at the first call."""
    folder = cache / name
    if (folder / "about.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    files = fetch_ct()
    volume, labels = Volume.read(files.image), Volume.read(files.labels).array
    wanted = (0.5, 0.5, 0.5) if name == "large" else (1.0, 0.75, 0.75)
    image = resampled(volume.array, volume.spacing, wanted)
    masks = {
        structure: resampled(255 * (labels == number).astype(np.uint8), volume.spacing, wanted) > 127
        for structure, number in files.structures.items()
    }
    if name == "large":
        first, shape = (0, *((n - 512) // 2 for n in image.shape[1:])), (1000, 512, 512)
        image, masks = mirrored(image, first, shape), {k: mirrored(m, first, shape) for k, m in masks.items()}
    elif name.startswith("deep-"):
        kidney, depth = masks["left kidney"], int(name[5:])
        first = (int(np.flatnonzero(kidney.any((1, 2))).mean()) - depth // 2, 0, 0)
        shape = (depth, *image.shape[1:])
        real = np.isin(np.arange(first[0], first[0] + depth), np.arange(len(image)))  # the kidney once
        masks = {"left kidney": mirrored(kidney, first, shape) & real[:, None, None]}
        image = mirrored(image, first, shape)
    np.save(folder / "volume.npy", image.astype(np.int16))
    for number, mask in enumerate(masks.values()):
        corner, end = (f(np.argwhere(mask), axis=0) for f in (np.min, np.max))
        box = tuple(slice(a, b + 1) for a, b in zip(corner, end, strict=True))
        np.savez_compressed(folder / f"{number}.npz", corner=corner, voxels=mask[box])
    about = {"spacing": wanted, "shape": image.shape, "modality": "CT", "objects": list(masks)}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def resampled(array: NDArray[Any], spacing: Sequence[float], wanted: Sequence[float]) -> NDArray[Any]:
    """Linear interpolation to another spacing."""
    factors = [float(a / b) for a, b in zip(spacing, wanted, strict=True)]
    return array if np.allclose(factors, 1) else ndimage.zoom(array, factors, order=1)


def mirrored(array: NDArray[Any], first: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
    """A part that begins at `first`; where it is larger than the array, that is mirrored at its ends."""
    for axis, (start, size) in enumerate(zip(first, shape, strict=True)):
        length = array.shape[axis]
        places = np.arange(start, start + size) % (2 * length - 2)
        array = array.take(np.minimum(places, 2 * length - 2 - places), axis)
    return array


class Worker:
    """A process of one version, stopped while it has nothing to do."""

    def __init__(self, version: str, source: Path, job: Row) -> None:
        self.version, self.job = version, job
        ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # as it is for whoever starts Python
        environment = {k: v for k, v in os.environ.items() if k not in ours}
        environment |= {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(job["threads"])}
        command = [sys.executable, str(Path(__file__).with_name("latency_process.py")), json.dumps({**job, "die": DIE})]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def measure(self, name: str) -> Row:
        """Row of an object."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        print(name, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise LimnetError(f"the process of version {self.version} ended; see its message above")
        self.process.send_signal(signal.SIGSTOP)
        kept = {key: self.job[key] for key in ("volume", "threads", "precision", "busy", "session")}
        return {"version": self.version, **kept, **json.loads(line)}


def measured(args: argparse.Namespace) -> Iterator[Row]:
    """Rows of everything the options ask for."""
    versions = {"now": SOURCE} | ({"before": args.against} if args.against else {})
    for name, threads, precision, busy in product(args.volume, args.threads, args.precision, args.busy):
        folder = prepare(name, args.cache)
        objects = json.loads((folder / "about.json").read_text())["objects"][: args.objects]
        job = {"volume": name, "folder": str(folder), "model": args.model, "busy": busy, "session": args.session}
        job |= {"threads": threads, "precision": precision, "corrections": args.corrections}
        job["singles"] = not args.quick and not name.startswith("deep-")
        others = [subprocess.Popen([sys.executable, "-c", f"{DIE}\nwhile True: pass"]) for _ in range(busy)]
        workers = [Worker(version, source, job) for version, source in versions.items()]
        try:
            for number, object_name in enumerate(objects):
                for worker in workers if number % 2 else workers[::-1]:
                    yield worker.measure(object_name)
        finally:
            started: list[subprocess.Popen[Any]] = [*(w.process for w in workers), *others]
            for process in started:
                process.kill()
                process.wait()


def files(args: argparse.Namespace) -> Iterator[Row]:
    """Seconds to read the large volume (500 MB of int16) from a NIfTI file, and what nibabel takes, in turns."""
    import nibabel

    load: Any = nibabel.load

    array = np.load(prepare("large", args.cache) / "volume.npy", mmap_mode="r")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "large.nii"
        nibabel.save(nibabel.Nifti1Image(array.T, np.diag([0.5, 0.5, 0.5, 1.0])), path)
        ways = {"limnet": lambda: Volume.read(path).array, "nibabel": lambda: np.array(load(path).dataobj)}
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(5):
            for way, read in ways.items():
                start = time.perf_counter()
                assert not isinstance(read(), np.memmap)  # of which nothing was read yet
                took[way].append(time.perf_counter() - start)
        yield {"file": path.name, "bytes": path.stat().st_size, "read": took}


def build_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(
        "limnet bench latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volume", type=volume_names, default=[], help="of ct, large and deep")
    parser.add_argument("--objects", type=int, default=5, help="of every volume")
    parser.add_argument("--corrections", type=int, default=3, help="of every object")
    parser.add_argument("--threads", type=numbers, default=[2])
    parser.add_argument("--precision", type=lambda text: text.split(","), default=["auto"], help="fp32, bf16, auto")
    parser.add_argument("--busy", type=numbers, default=[0], help="numbers of other busy processes")
    parser.add_argument("--session", action="store_true", help="keep a session file up to date meanwhile")
    parser.add_argument("--against", type=Path, help="src folder of another version of limnet, measured in turns")
    parser.add_argument("--files", action="store_true", help="time opening a NIfTI file, too")
    parser.add_argument("--quick", action="store_true", help="one correction, no single clicks; one kidney by default")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, add the rows to those there, write tables and plot."""
    args = build_parser().parse_args(argv)
    if args.quick:
        args.corrections = 1
        args.volume = args.volume or ["deep-128"]
    record = Record(args.out / "latency.json", {"model": args.model}, {"analysis": "latency"}, command_line())
    record.resume()
    with record.open():
        for make in [measured, *[files] * args.files]:
            for row in make(args):
                variant = ", ".join(str(row[k]) for k in CONFIG if k in row and k != "volume") or "file"
                row = {"variant": variant, "case": row.get("volume") or row["file"], "object": "", **row}
                row["command"] = record.command
                record.replace(row)
                print({k: np.round(v, 3).tolist() if isinstance(v, list) else v for k, v in row.items()}, flush=True)
    plot(record)
    print(record.finish({}, tables(record)))


def tables(record: Record) -> str:
    """Markdown of the rows of a record."""
    rows, machine = record.rows, record.environment["machine"]
    text = f"""# Waiting on volumes of the size scanners give

{machine["cpu"]}, {machine["cores"]} cores; rows were made by

{"".join(f"    {command}{chr(10)}" for command in dict.fromkeys(row["command"] for row in rows))}
Seconds, median / worst. An answer is the clicked slice, a round the whole object; single clicks are first and second
ones on slices of a fresh case, milliseconds p50 / p95. Memory is the most beyond the volume, Python and torch included.
Before / now: median of the ratios of first rounds and of corrections, object by object. Dice after the last correction
of a robot (the CT is among the training data of limnet-tiny).

"""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in (r for r in rows if "version" in r):
        groups.setdefault(tuple(row[k] for k in CONFIG), []).append(row)
    lines: list[list[object]] = []
    for config, mine in sorted(groups.items(), key=lambda item: (item[0][1:], item[0])):
        times = [pair([t for r in mine for t in r[what][p]]) for p in PARTS.values() for what in ("first", "round")]
        before = {r["object"]: r["round"] for r in groups.get(("before", *config[1:]), ())}
        pairs = [(before[r["object"]], r["round"]) for r in mine if r["object"] in before and config[0] == "now"]
        ratios = [statistics.median(sum(b[p]) / sum(n[p]) for b, n in pairs) for p in PARTS.values() if pairs]
        clicks = [[1000 * t for r in mine for t in r[k]] for k in ("click", "click_again")]
        single = ", ".join("{:.0f} / {:.0f}".format(*np.percentile(t, (50, 95))) for t in clicks if t)
        saves = pair([1000 * t for r in mine for t in r.get("save", ())])
        cells = [single, saves, round(max(r["peak"] for r in mine) / 2**20), ", ".join(f"{r:.1f}" for r in ratios)]
        lines.append([*config, len(mine), *times, *cells, statistics.mean(r["dice"][-1] for r in mine)])
    head = ["first answer", "first round", "answer to a correction", "correction", "single clicks"]
    head += ["saves, ms", "memory, MB", "before / now", "Dice"]
    text += markdown([*CONFIG, "objects", *head], lines)
    for row in (r for r in rows if "file" in r):
        limnet, nibabel = (statistics.median(row["read"][way]) for way in ("limnet", "nibabel"))
        text += f"\nOpening a NIfTI file of {row['bytes'] / 1e6:.0f} MB: {limnet:.2f} s, nibabel {nibabel:.2f} s.\n"
    return text


def pair(values: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(values):.2f} / {max(values):.2f}" if values else ""


def plot(record: Record) -> None:
    """Seconds of rounds by the depth of the volume, the same object in it."""
    deep = {r["volume"]: r for r in record.rows if r["case"].startswith("deep-") and r["version"] == "now"}
    names = sorted(deep, key=lambda name: int(name[5:]))
    series = {part: [statistics.median(deep[n]["round"][cut]) for n in names] for part, cut in PARTS.items()}
    if names:
        bar_rows(record.plot, "The same kidney by the slices of the volume", names, series, "seconds", 2)
