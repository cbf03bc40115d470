"""Kill a working session at random moments and see what is left: python -m tests.hostile.kills --kills 100.

A child process works on a case that is saved after every step, and tells each step when it is done. It is killed
(SIGKILL) at a random moment. The session file must then open, and hold every step that was told, or one more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from limnet.case.case import Case, restore
from limnet.case.session import read_session
from limnet.errors import LimnetError
from limnet.image.volume import Volume
from tests.helpers.fake_engine import fake_case, fake_engine

STEPS = 60
SEQUENCES = 10  # different sequences of steps; each is killed at many moments
SESSION = "work.limnet"
MASKS = ("mask.nii.gz", "mask.nrrd", "mask.npy", "mask.npz")
OUTPUTS = (*MASKS, "labels.nii.gz", "labels.json", "copy.limnet")


def step(case: Case, rng: np.random.Generator, folder: Path) -> None:
    """One step of a random annotator: a prompt, one back or forth, a name, or files written."""
    thing = case.object(str(rng.choice(["object", "liver", "spleen"])))
    shape = case.volume.shape
    point = tuple(int(rng.integers(n)) for n in shape)
    middle = tuple(p if axis == case.axis else n // 2 for axis, (p, n) in enumerate(zip(point, shape, strict=True)))
    low, high = tuple(p // 2 for p in point), tuple(min(p + 8, n - 1) for p, n in zip(point, shape, strict=True))
    with contextlib.suppress(LimnetError):  # such as undo before the first step: no step, nothing lost
        match int(rng.integers(14)):
            case 0 | 1 | 2 | 3 | 4:
                thing.click(point, bool(rng.random() < 0.7))
            case 5:
                thing.scribble([point, middle], bool(rng.random() < 0.7))
            case 6:
                thing.box(low, high)
            case 7:
                mask = np.zeros(shape, bool)
                mask[tuple(slice(a, b + 1) for a, b in zip(low, point, strict=True))] = True
                thing.set_mask(mask, frozen=bool(rng.random() < 0.5))
            case 8:
                case.undo()
            case 9:
                case.redo()
            case 10:
                thing.finish() if rng.random() < 0.5 else thing.suggest()
            case 11:
                case.rename(thing.name, f"{thing.name}'") if rng.random() < 0.5 else case.delete(thing.name)
            case 12:
                thing.save(folder / MASKS[int(rng.integers(len(MASKS)))])
                case.save_labels(folder / "labels.nii.gz")
            case _:
                case.save_session(folder / "copy.limnet")


def play(case: Case, seed: int, folder: Path, steps: int = STEPS) -> Iterator[None]:
    """Random steps; yields after every one."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        step(case, rng, folder)
        yield


def expected(seed: int) -> tuple[list[str], float]:
    """Marks of the session file after every step, and the seconds all of them take."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name).resolve() / SESSION
        case = fake_case(autosave=path)
        marks, begun = [case._marks[path][0]], time.perf_counter()
        for _ in play(case, seed, path.parent):
            marks.append(case._marks[path][0])
        return marks, time.perf_counter() - begun


def kill_once(folder: Path, seed: int, delay: float) -> int:
    """Let a child work in an empty folder and kill it after so many seconds; returns the number of steps it told."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(told)
            case = fake_case(autosave=folder / SESSION)
            os.write(tell, b"\0")
            for _ in play(case, seed, folder):
                os.write(tell, b"\0")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    os.read(told, 1)  # the session exists from here on
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    steps = 0
    while more := os.read(told, 4096):
        steps += len(more)
    os.close(told)
    return steps


def check(folder: Path, marks: list[str], steps: int) -> str:
    """Open what is left, go on with it, and say what a save in progress left beside it, "" for nothing.

    Raises:
        AssertionError: a step is lost, or a file is half written or left behind.
    """
    path = folder / SESSION
    session = read_session(path)  # checks every part of it
    assert session.mark in marks[steps : steps + 2], f"the session holds other than the {steps} steps that were done"
    for name in OUTPUTS:
        if (folder / name).exists() and name.endswith((".gz", ".nrrd")):
            assert Volume.read(folder / name).shape == session.volume.shape
    if (folder / "copy.limnet").exists():
        read_session(folder / "copy.limnet")
    left = {p.name for p in folder.iterdir()} - {SESSION, *OUTPUTS}
    case = restore(session, fake_engine())
    case.object("afterwards").click((6, 20, 24), positive=False)  # which no finished object forbids
    assert read_session(path).mark != session.mark
    after = {p.name for p in folder.iterdir()} - {SESSION, *OUTPUTS}
    assert after <= {".copy.limnet.lock"}, f"the next save leaves {after}"  # that lock goes with the next copy
    return ", ".join(sorted("lock" if name.endswith(".lock") else "temporary file" for name in left))


def run(kills: int, seed: int = 0) -> dict[str, Any]:
    """So many kills; raises at the first session that lost something."""
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    steps, known = 0, {n: expected(seed + n) for n in range(min(kills, SEQUENCES))}
    for number in range(kills):
        own = seed + number % SEQUENCES
        marks, seconds = known[number % SEQUENCES]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            done = kill_once(folder, own, float(rng.uniform(0, seconds)))
            found[check(folder, marks, done) or "nothing"] += 1
            steps += done
    return {"kills": kills, "steps done": steps, "left behind until the next save": dict(found)}


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begun = time.perf_counter()
    for name, value in run(args.kills, args.seed).items():
        sys.stdout.write(f"{name}: {value}\n")
    sys.stdout.write(f"every session opened and held all steps that were done; {time.perf_counter() - begun:.0f} s\n")


if __name__ == "__main__":
    main()
