"""The demonstration itself: a robot user segments every structure, and all numbers are kept."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet.demo.files import DemoFiles
from limnet.environment import command_line, environment
from limnet.errors import InputError
from limnet.image.io.atomic import atomic_write
from limnet.image.volume import Volume
from limnet.simulation.clicks import RobotUser

if TYPE_CHECKING:
    from limnet.segmenter import InteractiveSegmenter

RoundDone = Callable[[str, "Round"], object]
SliceDone = Callable[[str, int, int], object]

SEED = 0
"""Of the robot user."""


@dataclass(frozen=True)
class Round:
    """One click and what came of it: Dice of the whole 3-D mask, wall time of the round in seconds."""

    number: int
    zyx: tuple[int, int, int]
    positive: bool
    dice: float
    seconds: float


@dataclass
class StructureResult:
    """One structure: its rounds, masks (D, H, W) bool and the predicted quality of each slice (D,) in 0..1."""

    name: str
    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    quality: NDArray[np.float32]
    rounds: list[Round] = field(default_factory=list)
    path: Path | None = None


@dataclass
class DemoResult:
    """All structures, the volume and what it was done with.

    Attributes:
        files: what was worked on.
        volume: the image.
        model: name of the model.
        structures: what was found.
        peak_memory: of the process in bytes, None: unknown.
        identity: name, classes and hash of the weights, see `InteractiveSegmenter.identity`.
    """

    files: DemoFiles
    volume: Volume
    model: str
    structures: list[StructureResult]
    peak_memory: int | None = None
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def notice(self) -> str | None:
        """What a reader has to know before judging the numbers."""
        if self.files.synthetic:
            return "Synthetic volume: the numbers show that the program runs, nothing about real images."
        if self.model in self.files.seen_by:
            return (
                f"{self.model} had this CT among its training data: the numbers show that the program works, "
                "not how well it does on a new patient."
            )
        return None


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice overlap of two masks; 1 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total


def run_demo(
    files: DemoFiles,
    segmenter: InteractiveSegmenter,
    out: Path,
    rounds: int = 6,
    model: str = "limnet-tiny",
    on_round: RoundDone | None = None,
    on_slice: SliceDone | None = None,
) -> DemoResult:
    """Segment every structure of `files` with simulated clicks; write masks, label map, image and results.json.

    Args:
        files: what to work on.
        segmenter: the model.
        out: folder for the files; made if needed.
        rounds: clicks per structure, fewer when a mask is perfect before.
        model: name of the model, for the report.
        on_round: called with the structure's name and each finished round.
        on_slice: called with the structure's name, slices done and slices to do while a round propagates.

    Raises:
        InputError: labels on another grid than the image, a structure without voxels, rounds < 1.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; the demo needs at least one")
    volume = Volume.read(files.image)
    labels = Volume.read(files.labels)
    if labels.shape != volume.shape or not np.allclose(labels.affine, volume.affine, atol=1e-3):
        raise InputError(f"{files.labels} lies on another grid than {files.image}")
    out.mkdir(parents=True, exist_ok=True)
    image = _beside(files.image, out)
    case = segmenter.open(files.image)
    user = RobotUser(spacing=volume.spacing, seed=SEED)
    name_of_model = model if not Path(model).is_dir() else Path(model).resolve().name
    result = DemoResult(files, volume, name_of_model, [], identity=segmenter.identity)
    for name, number in files.structures.items():
        truth = labels.array == number
        if not truth.any():
            raise InputError(f"{files.labels} holds no voxel of {name} (label {number})")
        found = StructureResult(name, truth, np.zeros_like(truth), np.zeros(len(truth), dtype=np.float32))
        target = case.object(name)
        current: NDArray[np.bool_] | None = None
        for r in range(1, rounds + 1):
            click = user.next_click(truth, current, r)
            if click is None:
                break
            start = time.perf_counter()
            current = target.click(click.zyx, positive=click.positive, progress=_slice_report(on_slice, name))
            seconds = time.perf_counter() - start
            done = Round(r, click.zyx, click.positive, dice(current, truth), seconds)
            found.rounds.append(done)
            if on_round is not None:
                on_round(name, done)
        if current is not None:
            found.mask = np.array(current, dtype=bool)
        found.quality = np.array(target.quality, dtype=np.float32)
        found.path = volume.write_mask(found.mask, out / f"{name.replace(' ', '_')}.nii.gz")
        result.structures.append(found)
    case.save_labels(out / "labels.nii.gz")
    result.peak_memory = peak_memory()
    about = {"image": image.relative_to(out.resolve()).as_posix(), **summary(result)}
    (out / "results.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return result


def summary(result: DemoResult) -> dict[str, Any]:
    """The numbers of a run and how they were made (command, versions, commit, machine), as plain JSON values."""
    return {
        "command": command_line(),
        "environment": environment(),
        "model": result.model,
        "identity": result.identity,
        "seed": SEED,
        "volume": result.files.title,
        "source": result.files.source,
        "notice": result.notice,
        "peak_memory_bytes": result.peak_memory,
        "mean_dice": mean_dice(result.structures),
        "structures": [
            {
                "name": s.name,
                "mask": s.path.name if s.path else None,
                "rounds": [
                    {"click": list(r.zyx), "positive": r.positive, "dice": r.dice, "seconds": r.seconds}
                    for r in s.rounds
                ],
            }
            for s in result.structures
        ],
    }


def _beside(image: Path, out: Path) -> Path:
    """The image in the folder of the results, copied there if need be, so that `limnet view` finds both."""
    if image.resolve().is_relative_to(out.resolve()):
        return image.resolve()
    target = out.resolve() / f"demo_ct{''.join(image.suffixes[-2:])}"

    def copy(path: Path) -> None:
        shutil.copyfile(image, path)

    return atomic_write(target, copy)


def mean_dice(structures: Sequence[StructureResult]) -> list[float]:
    """Mean Dice over the structures after each round; a structure that needed fewer rounds keeps its last value."""
    count = max((len(s.rounds) for s in structures), default=0)
    return [float(np.mean([s.rounds[min(r, len(s.rounds) - 1)].dice for s in structures])) for r in range(count)]


def peak_memory() -> int | None:
    """Largest resident memory of this process so far in bytes, or None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _slice_report(on_slice: SliceDone | None, name: str) -> Callable[[int, int], object] | None:
    if on_slice is None:
        return None
    return lambda done, total: on_slice(name, done, total)
