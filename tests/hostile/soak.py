"""A random annotator on random volumes for as long as you like: python -m tests.hostile.soak --minutes 5.

Each case is a new volume (shape, kind of voxels, spacing, axis) with random prompts, steps back and forth, names, and
files. After every case memory (resident set) and open files are noted. They have to be flat: the median of the last
third of the cases may not exceed that of the second third by more than LEEWAY, and no file may stay open.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from limnet import InteractiveSegmenter
from limnet.image.volume import Volume
from tests.hostile import kills

LEEWAY = 20 * 2**20  # bytes; what the allocator keeps after cases of other sizes varies by less
DTYPES = (np.uint8, np.int16, np.uint16, np.float32)


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """Number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))


def settle() -> None:
    """Give back what is free, so that two readings can be compared."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def volume(rng: np.random.Generator, side: int) -> Volume:
    """A bright ellipsoid with noise, slices of 40 to `side` pixels a side."""
    shape = (int(rng.integers(6, 24)), int(rng.integers(40, side)), int(rng.integers(40, side)))
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radii, middle = rng.uniform(0.3, 0.8, 3), rng.uniform(-0.3, 0.3, 3)
    inside = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii, strict=True)) < 1
    array = np.clip(rng.normal(60, 10, shape) + 120 * inside, 0, 250).astype(DTYPES[int(rng.integers(len(DTYPES)))])
    return Volume.from_array(array, tuple(rng.uniform(0.5, 5.0, 3).round(2).tolist()))


def annotate(segmenter: InteractiveSegmenter, rng: np.random.Generator, folder: Path, side: int, most: int) -> int:
    """One case, from opening to the last file; returns the number of steps."""
    image = volume(rng, side)
    if rng.random() < 0.5:
        file = folder / f"image{rng.choice(['.nii.gz', '.nrrd', '.mha'])}"
        image = Volume.read(image.write_mask(image.array.astype(np.uint16), file))
    session = folder / "work.limnet"
    case = segmenter.open(image, axis=int(rng.integers(3)), session=session if rng.random() < 0.7 else None)
    steps = int(rng.integers(4, most))
    for _ in range(steps):
        kills.step(case, rng, folder)
        if rng.random() < 0.07:
            case = segmenter.resume(case.save_session(session))
    return steps


def soak(
    segmenter: InteractiveSegmenter, minutes: float, seed: int = 0, side: int = 160, most: int = 20
) -> dict[str, list[int]]:
    """Cases of fewer than `most` steps, for so many minutes (three at least); memory, open files, steps after each."""
    rng = np.random.default_rng(seed)
    noted: dict[str, list[int]] = {"memory": [], "files": [], "steps": []}
    end, told = time.monotonic() + 60 * minutes, time.monotonic()
    while time.monotonic() < end or len(noted["steps"]) < 3:
        with tempfile.TemporaryDirectory() as name:
            noted["steps"].append(annotate(segmenter, rng, Path(name), side, most))
        settle()
        noted["memory"].append(resident())
        noted["files"].append(open_files())
        if time.monotonic() - told > 60:
            told = time.monotonic()
            sys.stdout.write(f"case {len(noted['steps'])}: {noted['memory'][-1] / 2**20:.0f} MB\n")
            sys.stdout.flush()
    return noted


def verdict(noted: dict[str, list[int]]) -> tuple[bool, str]:
    """Whether memory and files were flat, and the figures."""
    memory, files, third = noted["memory"], noted["files"], len(noted["memory"]) // 3
    middle, last = median(memory[third : 2 * third]), median(memory[2 * third :])
    text = (
        f"{len(memory)} cases, {sum(noted['steps'])} steps; memory {middle / 2**20:.0f} MB in the second third, "
        f"{last / 2**20:.0f} MB in the last (most: {max(memory) / 2**20:.0f} MB); "
        f"open files {files[0]} after the first case, {files[-1]} after the last"
    )
    return last - middle <= LEEWAY and files[-1] <= files[0], text


def main() -> None:
    """Run and report; exit status 1 where something grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--model", default="limnet-tiny")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    flat, text = verdict(soak(InteractiveSegmenter.from_pretrained(args.model), args.minutes, args.seed))
    sys.stdout.write(f"{text}\n{'flat' if flat else 'GREW'}\n")
    raise SystemExit(0 if flat else 1)


if __name__ == "__main__":
    main()
