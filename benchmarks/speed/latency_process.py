"""The process that `limnet bench latency` measures: the public face of limnet, of this or another version."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
SINGLE = 6  # first clicks on slices of the object in a fresh case, with a second click each


def work(job: Row) -> None:
    """Open the volume, then for every object named on standard input write a row."""
    exec(job["die"])
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


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
