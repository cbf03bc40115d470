"""How long a person waits, on volumes of the size scanners give: first answer, rounds, corrections, memory.

    python benchmarks/latency.py --quick                                         # one kidney, half a minute
    python benchmarks/latency.py --volume ct,large,deep --against ../before/src  # beside another version of limnet
    python benchmarks/latency.py --volume ct --threads 1,2 --precision fp32,bf16 --busy 0,1,2
    python benchmarks/latency.py --peers --files                               # networks of other tools, opening a file

Volumes are made from the demo's CT: `ct` 336 x 404 x 488 voxels of 1.0 x 0.75 x 0.75 mm, `large` 1000 x 512 x 512 of
0.5 mm (mirrored where the body ends), `deep` the same kidney in 128 to 1024 slices. `head` and `thorax` are open
volumes of `--data ROOT`, the thorax at 0.75 mm. A robot clicks: in the middle of the object on its largest slice, then
in the middle of the largest error on the worst slice. The first answer is the first time `on_update` tells of the
clicked slice. Every version, number of threads and precision has a process of its own; versions take turns object by
object, the one that is not at work stopped. The first object of a process is the cold one. Rows are kept in
latency.json: later runs add theirs, and replace those of the same measurement.
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

Row = dict[str, Any]
SOURCE = Path(__file__).resolve().parents[1] / "src"
DEPTHS = (128, 256, 512, 1024)
BRAIN = "left thalamus, left putamen, brain stem, left hippocampus, right cerebellum cortex"
CHEST = "heart, pulmonary_artery, vertebrae_T12, aorta_true_lumen, aorta_false_lumen"
OPEN_VOLUMES = {"head": ("val/vxm_brain_t1.npz", BRAIN), "thorax": ("train/ts_ct_thorax.npz", CHEST)}
SPACINGS = {"head": (1.0, 1.0, 1.0), "large": (0.5, 0.5, 0.5)}
CONFIG = ("version", "volume", "threads", "precision", "busy", "session")
PARTS = (slice(0, 1), slice(1, None))  # of the rounds: the first, the corrections
PEERS = ("nninteractive", "sam2-video", "ritm-h32", "xmem")
DIE = "import ctypes; ctypes.CDLL(None).prctl(1, 9)"  # with the process that started this one (Linux)
CACHE = Path(tempfile.gettempdir()) / "limnet-latency"
SINGLE = 6  # first clicks on slices of the object in a fresh case, with a second click each


# volumes


def volume_names(text: str) -> list[str]:
    """Names of a comma list; `deep` stands for all its depths."""
    names = [n for name in text.split(",") for n in ([f"deep-{d}" for d in DEPTHS] if name == "deep" else [name])]
    unknown = [n for n in names if n not in ("ct", "large", *OPEN_VOLUMES) and not n.startswith("deep-")]
    if unknown:
        raise SystemExit(f"volume {unknown[0]!r} is unknown; there are ct, large, deep, {', '.join(OPEN_VOLUMES)}")
    return names


def prepare(name: str, cache: Path, data: Path | None) -> Path:
    """Folder with volume.npy, about.json and one file per structure (its box and voxels); made at the first call."""
    folder = cache / name
    if (folder / "about.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    image, masks, spacing = source(name, data)
    wanted = SPACINGS.get(name, (1.0, 0.75, 0.75))
    image = resampled(image, spacing, wanted)
    masks = {key: resampled(255 * mask.astype(np.uint8), spacing, wanted) > 127 for key, mask in masks.items()}
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
    modality = "MR" if name == "head" else "CT"
    about = {"spacing": wanted, "shape": image.shape, "modality": modality, "objects": list(masks)}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def source(name: str, data: Path | None) -> tuple[NDArray[Any], dict[str, NDArray[np.bool_]], Sequence[float]]:
    """Image, masks and spacing that a volume is made from."""
    if name in OPEN_VOLUMES:
        if data is None:
            raise SystemExit(f"volume {name} needs --data, the folder with {OPEN_VOLUMES[name][0]}")
        file, structures = OPEN_VOLUMES[name]
        entries = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["volumes"]
        numbers = {v: int(k) for k, v in next(e for e in entries if e["file"] == file)["labels"].items()}
        stored = np.load(data / file)
        return stored["image"], {s: stored["label"] == numbers[s] for s in structures.split(", ")}, stored["spacing"]
    from limnet import Volume
    from limnet.simulation.demo import fetch_ct

    files = fetch_ct()
    image, labels = Volume.read(files.image), Volume.read(files.labels).array
    return image.array, {s: labels == number for s, number in files.structures.items()}, image.spacing


def resampled(array: NDArray[Any], spacing: Sequence[float], wanted: Sequence[float]) -> NDArray[Any]:
    """Linear interpolation to another spacing, one slice after the other to save memory."""
    from scipy import ndimage

    factors = [float(a / b) for a, b in zip(spacing, wanted, strict=True)]
    if np.allclose(factors, 1):
        return array
    planes = np.stack([ndimage.zoom(p.astype(np.float32), factors[1:], order=1) for p in array])
    count = round(len(array) * factors[0])
    result = np.empty((count, *planes.shape[1:]), array.dtype)
    for index, place in enumerate(np.linspace(0, len(array) - 1, count)):
        low, share = int(place), place % 1
        result[index] = np.rint(planes[low] * (1 - share) + planes[min(low + 1, len(array) - 1)] * share)
    return result


def mirrored(array: NDArray[Any], first: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
    """A part that begins at `first`; where it is larger than the array, that is mirrored at its ends."""
    for axis, (start, size) in enumerate(zip(first, shape, strict=True)):
        length = array.shape[axis]
        places = np.arange(start, start + size) % (2 * length - 2)
        array = array.take(np.minimum(places, 2 * length - 2 - places), axis)
    return array


# the process that is measured


def work(job: Row) -> None:
    """Open the volume, then for every object named on standard input write a row; nothing but limnet's public face."""
    exec(DIE)
    import limnet

    if hasattr(limnet, "use_threads"):
        limnet.use_threads(job["threads"])
    start = time.perf_counter()
    import torch

    torch.set_num_threads(job["threads"])
    segmenter = limnet.InteractiveSegmenter.from_pretrained(job["model"], precision=job["precision"])
    loaded = time.perf_counter() - start
    folder = Path(job["folder"])
    about, array = json.loads((folder / "about.json").read_text()), np.load(folder / "volume.npy")
    volume = limnet.Volume.from_array(array, about["spacing"], modality=about["modality"])
    with tempfile.TemporaryDirectory() as place:
        session, size = None, array.nbytes
        if job["session"]:  # a volume without a file would be in the session itself
            import SimpleITK as sitk

            image = sitk.GetImageFromArray(array)
            image.SetSpacing(about["spacing"][::-1])
            sitk.WriteImage(image, Path(place) / "volume.mha")
            session = Path(place) / "session.limnet"
            del array, image
            volume = limnet.Volume.read(Path(place) / "volume.mha", modality=about["modality"])
        start = time.perf_counter()
        case: Any = segmenter.open(volume, session=session)
        opened = time.perf_counter() - start
        saves: list[float] = []
        save = case.save_session

        def timed(path: Any) -> Any:
            begin = time.perf_counter()
            done = save(path)
            saves.append(time.perf_counter() - begin)
            return done

        case.save_session = timed
        for cold, name in zip([True] + [False] * 99, map(str.strip, sys.stdin), strict=False):
            truth = np.load(folder / f"{about['objects'].index(name)}.npz")
            forget_peak()
            saves.clear()
            row = rounds(case, name, truth, 1 + job["corrections"])
            row["save"] = list(saves)
            row |= {"peak": peak() - size, "volume_bytes": size, "load": loaded, "open": opened}
            row |= {"cold": cold, **single_clicks(segmenter.open(volume), truth, SINGLE if job["singles"] else 0)}
            print(json.dumps(row), flush=True)


def rounds(case: Any, name: str, truth: Any, count: int) -> Row:
    """Rounds on one object: seconds to the first answer on the clicked slice and to the end, Dice."""
    from scipy import ndimage

    corner, voxels = truth["corner"], truth["voxels"]
    box = tuple(slice(a, a + n) for a, n in zip(corner, voxels.shape, strict=True))
    answered, whole, dices, origin = [], [], [], corner
    wrong, positive = voxels, True
    for _ in range(count):
        areas = np.count_nonzero(wrong, axis=(1, 2))
        z = int(areas.argmax())
        pieces, number = ndimage.label(wrong[z], np.ones((3, 3)))
        largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if number else pieces == 0
        depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        point = (int(z + origin[0]), int(y + origin[1]), int(x + origin[2]))
        inside = tuple(p - c for p, c in zip(point, corner, strict=True))
        positive = all(0 <= p < n for p, n in zip(inside, voxels.shape, strict=True)) and bool(voxels[inside])
        first: list[float] = []
        wrong = mask = None  # a person's program need not hold the last answer, either

        def on_update(extent: Any, *_: object, index: int = point[0], first: list[float] = first) -> None:
            if not first and extent[0][0] <= index < extent[0][1]:
                first.append(time.perf_counter())

        start = time.perf_counter()
        mask = case.object(name).click(point, positive, on_update=on_update)
        end = time.perf_counter()
        whole.append(end - start)
        answered.append((first[0] if first else end) - start)
        dices.append(2 * np.count_nonzero(mask[box] & voxels) / (np.count_nonzero(mask) + np.count_nonzero(voxels)))
        mask[box] ^= voxels
        wrong, origin = mask, (0, 0, 0)
    return {"object": name, "slices": len(voxels), "first": answered, "round": whole, "dice": dices}


def single_clicks(case: Any, truth: Any, count: int) -> Row:
    """Seconds of first clicks on single slices, each its own object, and of a second click beside the first."""
    corner, voxels = truth["corner"], truth["voxels"]
    found: dict[str, list[float]] = {"click": [], "click_again": []}
    held = np.flatnonzero(voxels.any((1, 2)))
    for number in range(count):
        z = int(held[(2 * number + 1) * len(held) // (2 * count)])
        points = np.argwhere(voxels[z])
        y, x = points[len(points) // 2]
        for key, (dy, dx) in (("click", (0, 0)), ("click_again", (3, 3))):
            point = (int(z + corner[0]), int(y + dy + corner[1]), int(x + dx + corner[2]))
            start = time.perf_counter()
            case.object(str(number)).click(point, propagate=False)
            found[key].append(time.perf_counter() - start)
    return found


def forget_peak() -> None:
    """Count the most memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Most resident bytes of this process since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# the run


class Worker:
    """A process of one version, stopped while it has nothing to do."""

    def __init__(self, version: str, source: Path, job: Row) -> None:
        self.version, self.job = version, job
        ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # as it is for whoever starts Python
        environment = {k: v for k, v in os.environ.items() if k not in ours}
        environment |= {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(job["threads"])}
        command = [sys.executable, __file__, "--work", json.dumps(job)]
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
            raise SystemExit(f"the process of version {self.version} ended; see its message above")
        self.process.send_signal(signal.SIGSTOP)
        kept = {key: self.job[key] for key in ("volume", "threads", "precision", "busy", "session")}
        return {"version": self.version, **kept, **json.loads(line)}


def measured(args: argparse.Namespace) -> Iterator[Row]:
    """Rows of everything the options ask for."""
    versions = {"now": SOURCE} | ({"before": args.against} if args.against else {})
    for name, threads, precision, busy in product(args.volume, args.threads, args.precision, args.busy):
        folder = prepare(name, args.cache, args.data)
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


def peers(args: argparse.Namespace) -> Iterator[Row]:
    """Seconds of a click and a slice of other tools' networks at 480 x 480 pixels, of those that are installed."""
    from benchmarks.speed.compare import Job, run
    from benchmarks.speed.methods import FIRST, ROUND_FIRST, SLICE_FIRST

    about = {"threads": max(args.threads), "precision": args.precision[0]}
    names = {"click": FIRST, "slice": SLICE_FIRST, "round": ROUND_FIRST}
    job = Job(tuple(PEERS), 480, 3, (max(args.threads),), (args.precision[0],), laps=1)
    samples = {row["method"]: row["samples"] for row in run(job) if "samples" in row}  # of those that can be used here
    if "xmem" in samples:  # the method of the paper
        samples["RITM and XMem"] = samples.pop("ritm-h32") | {SLICE_FIRST: samples.pop("xmem")[SLICE_FIRST]}
    for peer, found in samples.items():
        yield {
            "peer": peer,
            **about,
            **{k: statistics.median(found[part]) for k, part in names.items() if part in found},
        }


def files(args: argparse.Namespace) -> Iterator[Row]:
    """Seconds to read the large volume (500 MB of int16) from a NIfTI file, and what nibabel takes, in turns."""
    import nibabel

    from limnet import Volume

    load: Any = nibabel.load

    array = np.load(prepare("large", args.cache, args.data) / "volume.npy", mmap_mode="r")
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
        yield {"file": path.name, "bytes": path.stat().st_size, **took}


def build_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=volume_names, default=[], help="of ct, large, deep, head, thorax")
    parser.add_argument("--objects", type=int, default=5, help="of every volume")
    parser.add_argument("--corrections", type=int, default=3, help="of every object")
    parser.add_argument("--threads", type=numbers, default=[2])
    parser.add_argument("--precision", type=lambda text: text.split(","), default=["auto"], help="fp32, bf16, auto")
    parser.add_argument("--busy", type=numbers, default=[0], help="numbers of other busy processes")
    parser.add_argument("--session", action="store_true", help="keep a session file up to date meanwhile")
    parser.add_argument("--against", type=Path, help="src folder of another version of limnet, measured in turns")
    parser.add_argument("--peers", action="store_true", help="time networks of other tools, too")
    parser.add_argument("--files", action="store_true", help="time opening a NIfTI file, too")
    parser.add_argument("--quick", action="store_true", help="one correction, no single clicks; one kidney by default")
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--data", type=Path, help="folder with the manifest.json of the open volumes")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, add the rows to those there, write tables and plot."""
    args = build_parser().parse_args()
    if args.work:
        return work(args.work)
    if args.quick:
        args.corrections = 1
        args.volume = args.volume or ["deep-128"]
    sys.path[:0] = [str(SOURCE), str(SOURCE.parent)]
    from limnet.environment import command_line, environment

    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "latency.json"
    record = json.loads(file.read_text()) if file.exists() else {"commands": [], "rows": []}
    record["environment"] = environment()
    for make in [measured, *[peers] * args.peers, *[files] * args.files]:
        for row in make(args):
            row["commit"] = record["environment"]["commit"]
            keys = (*CONFIG, "object", "peer", "file")
            old = [r for r in record["rows"] if any(r.get(k) != row.get(k) for k in keys)]
            record["rows"] = [*old, row]
            print({k: np.round(v, 3).tolist() if isinstance(v, list) else v for k, v in row.items()}, flush=True)
            file.write_text(json.dumps(record) + "\n", encoding="utf-8")  # what is measured is kept
    if command_line() not in record["commands"] and (args.volume or args.peers or args.files):
        record["commands"].append(command_line())
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.out / "latency.md").write_text(tables(record), encoding="utf-8")
    plot(record["rows"], args.out / "latency.png")


# tables and plot


def tables(record: Row) -> str:
    """Markdown of a record."""
    machine = record["environment"]["machine"]
    text = f"""# Waiting on volumes of the size scanners give

{machine["cpu"]}, {machine["cores"]} cores; made by

{"".join(f"    python benchmarks/{command}{chr(10)}" for command in record["commands"])}
Seconds, median / worst. An answer is the clicked slice, a round the whole object; single clicks are first and second
ones on slices of a fresh case, milliseconds p50 / p95. Memory is the most beyond the volume, Python and torch included.
Before / now: median of the ratios of first rounds and of corrections, object by object. Dice after the last correction
of a robot (the CT is among the training data of limnet-tiny).

"""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in (r for r in record["rows"] if "version" in r):
        groups.setdefault(tuple(row[k] for k in CONFIG), []).append(row)
    lines = []
    for config, mine in sorted(groups.items(), key=lambda item: (item[0][1:], item[0])):
        times = [pair([t for r in mine for t in r[what][part]]) for part in PARTS for what in ("first", "round")]
        before = {r["object"]: r["round"] for r in groups.get(("before", *config[1:]), ())}
        pairs = [(before[r["object"]], r["round"]) for r in mine if r["object"] in before and config[0] == "now"]
        ratios = [statistics.median(sum(b[p]) / sum(n[p]) for b, n in pairs) for p in PARTS] if pairs else []
        clicks = [[1000 * t for r in mine for t in r[k]] for k in ("click", "click_again")]
        line = dict(zip(CONFIG, config, strict=True)) | {"objects": len(mine)}
        line |= dict(zip(("first answer", "first round", "answer to a correction", "correction"), times, strict=True))
        line["single clicks"] = ", ".join("{:.0f} / {:.0f}".format(*np.percentile(t, (50, 95))) for t in clicks if t)
        line["saves, ms"] = pair([1000 * t for r in mine for t in r.get("save", ())])
        line["memory, MB"] = round(max(r["peak"] for r in mine) / 2**20)
        line["before / now"] = ", ".join(f"{r:.1f}" for r in ratios)
        lines.append(line | {"Dice": f"{statistics.mean(r['dice'][-1] for r in mine):.3f}"})
    text += markdown(lines)
    lines = []
    for peer in (r for r in record["rows"] if "peer" in r):
        beside = groups.get(("now", "ct", peer["threads"], peer["precision"], 0, False))
        if beside and (peer.get("round") or {"click", "slice"} <= set(peer)):
            slices = statistics.median(r["slices"] for r in beside)
            took = peer.get("round") or peer["click"] + (slices - 1) * peer["slice"]
            line = {k: peer[k] for k in ("peer", "threads", "precision")} | {"first click": f"{peer['click']:.2f}"}
            ratio = took / statistics.median(r["round"][0] for r in beside)
            lines.append(line | {"first round": f"{took:.0f}", "limnet on the CT takes 1 /": f"{ratio:.0f}"})
    for row in (r for r in record["rows"] if "file" in r):
        limnet, nibabel = (statistics.median(row[way]) for way in ("limnet", "nibabel"))
        text += f"\nOpening a NIfTI file of {row['bytes'] / 1e6:.0f} MB: {limnet:.2f} s, nibabel {nibabel:.2f} s.\n"
    if lines:
        text += (
            "\n## Networks of other tools\n\nRandom weights, 480 x 480 pixels, as many slices as limnet computes.\n\n"
        )
    return text + markdown(lines)


def markdown(lines: Sequence[Row]) -> str:
    """A table."""
    head = list(lines[0]) if lines else []
    cells = [head, ["---"] * len(head), *(line.values() for line in lines)] if lines else []
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in cells)


def pair(values: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(values):.2f} / {max(values):.2f}" if values else ""


def plot(rows: list[Row], path: Path) -> None:
    """Seconds of rounds by the depth of the volume, the same object in it."""
    deep = [r for r in rows if r.get("volume", "").startswith("deep-")]
    if not deep:
        return
    from matplotlib.figure import Figure

    figure = Figure((5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for number, version in enumerate(dict.fromkeys(r["version"] for r in deep)):
        for part, style, what in zip(PARTS, ("-", "--"), ("first round", "corrections"), strict=True):
            mine = [r for r in deep if r["version"] == version]
            points = sorted((int(r["volume"][5:]), statistics.median(r["round"][part])) for r in mine)
            axes.plot(*zip(*points, strict=True), style, marker="o", color=f"C{number}", label=f"{version}, {what}")
    axes.set(xlabel="slices of the volume, the same kidney in it", ylabel="seconds", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
