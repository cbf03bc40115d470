"""Dice after every round on the open volumes, one click a round by the robot user.

    python benchmarks/open_volumes.py --data ROOT --model limnet-tiny --split val --out benchmarks/results/open_val.json

Every object of at least 300 voxels is segmented in a case of its own. Ids of semantic label maps are objects, except
lesions and nodules, whose connected components are. `--per-file N` takes N objects per file, spread evenly over the
ids; `--per-group N` at most N files of one group. Finished objects are kept: an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

GROUPS = {
    "organs and bones, CT": ("ts_ct", "dcmqi"),
    "organs, MR": ("ts_mr", "spinegeneric", "sct_"),
    "nodules, CT": ("lidc",),
    "lesions, brain MR": ("openms",),
    "structures, brain MR": ("vxm", "mni152", "ch2", "inia19"),
    "microscopy": ("micro/", "2d/"),
}
SMALLEST = 300


def build_parser() -> argparse.ArgumentParser:
    """Options of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--model", default="limnet-tiny", help="zoo name, model folder or Hub id")
    parser.add_argument("--split", choices=("train", "val"), default="val")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scope", choices=("volume", "interval"), help="propagation scope; the model's own by default")
    parser.add_argument("--tau", type=float, help="fusion threshold; 1 turns fusion off; the model's own by default")
    parser.add_argument("--per-file", type=int, default=10**9)
    parser.add_argument("--per-group", type=int, default=10**9)
    parser.add_argument("--skip", default="2d/", help="leave out files whose name holds this (default: 2d/)")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def group_of(name: str) -> str:
    """Group of a file."""
    return next((group for group, parts in GROUPS.items() if any(p in name for p in parts)), "other")


def objects(labels: np.ndarray, entry: dict, limit: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask of every object to segment, at most `limit`, spread evenly."""
    from scipy import ndimage

    names = {int(i): n for i, n in (entry.get("labels") or {}).items()}
    found = []
    for label in np.unique(labels[labels > 0]):
        name = names.get(int(label), f"id {int(label)}")
        if "lesion" in name or "nodule" in name:
            parts, number = ndimage.label(labels == label, np.ones((3, 3, 3)))
            sizes = np.bincount(parts.ravel(), minlength=number + 1)
            found += [(f"{name} {i}", parts, i) for i in range(1, number + 1) if sizes[i] >= SMALLEST]
        elif np.count_nonzero(labels == label) >= SMALLEST:
            found.append((name, labels, int(label)))
    picks = np.unique(np.linspace(0, len(found) - 1, min(limit, len(found))).round().astype(int)) if found else []
    for i in picks:
        name, array, label = found[i]
        yield name, array == label


def dice(mask: np.ndarray, target: np.ndarray) -> float:
    """Dice of two bool arrays."""
    return float(2 * np.count_nonzero(mask & target) / max(np.count_nonzero(mask) + np.count_nonzero(target), 1))


def main(argv: Sequence[str] | None = None) -> None:
    """Run and write JSON; print a table of the means."""
    args = build_parser().parse_args(argv)
    import torch
    from rich.console import Console
    from rich.table import Table

    import limnet
    from limnet import InteractiveSegmenter
    from limnet.datasets.open import read_manifest
    from limnet.simulation.clicks import RobotUser
    from limnet.volume_io.atomic import atomic_write

    if args.threads:
        torch.set_num_threads(args.threads)
    settings = {k: v for k, v in (("scope", args.scope), ("tau", args.tau)) if v is not None}
    segmenter = InteractiveSegmenter.from_pretrained(args.model)
    rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    done = {(r["file"], r["object"]) for r in rows}
    seen: dict[str, int] = {}
    for entry in read_manifest(args.data):
        name = entry["file"]
        group = group_of(name)
        if not name.startswith(args.split + "/") or args.skip in name or entry["kind"] == "labels-only":
            continue
        seen[group] = seen.get(group, 0) + 1
        if seen[group] > args.per_group:
            continue
        with np.load(args.data / name) as data:
            image, labels, spacing = data["image"], data["label"], tuple(float(s) for s in data["spacing"])
        for thing, target in objects(labels, entry, args.per_file):
            if (name, thing) in done:
                continue
            case = segmenter.open(image, spacing=spacing, settings=settings or None)
            robot, mask, scores, seconds = RobotUser(spacing), None, [], []
            for turn in range(1, args.rounds + 1):
                click = robot.next_click(target, mask, turn)
                if click is not None:
                    start = time.perf_counter()
                    mask = case.click(click.zyx, positive=click.positive)
                    seconds.append(round(time.perf_counter() - start, 3))
                scores.append(round(dice(mask, target), 4))
            row = {"file": name, "object": thing, "group": group, "voxels": int(target.sum())}
            rows.append({**row, "dice": scores, "seconds": seconds})
            report = {
                "command": "python benchmarks/open_volumes.py",
                "settings": {k: str(v) for k, v in vars(args).items() if k not in ("data", "out")},
                "limnet": limnet.__version__,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "machine": platform.machine(),
                "model": segmenter.identity,
                "rows": rows,
            }
            text = json.dumps(report, indent=1, default=str)
            atomic_write(args.out, lambda path, text=text: path.write_text(text))
    table = Table("group", "objects", *(f"round {i}" for i in range(1, args.rounds + 1)), "s/round")
    for group in [*dict.fromkeys(r["group"] for r in rows), "all"]:
        some = [r for r in rows if group in (r["group"], "all")]
        mean = np.mean([r["dice"] for r in some], 0)
        pace = np.median([s for r in some for s in r["seconds"]])
        table.add_row(group, str(len(some)), *(f"{m:.3f}" for m in mean), f"{pace:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
