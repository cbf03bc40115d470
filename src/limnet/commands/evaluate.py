"""`limnet evaluate`: how good a model is on the user's own labelled images, click by click."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limnet.commands.shared import Device, Model

if TYPE_CHECKING:
    from limnet.commands.evaluation import PlayedObject

NSD_MM = 2.0  # tolerance of the CVPR 2025 challenge


def evaluate(
    source: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with images/ and labels/, or a CSV or JSON list.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")],
    model: Model = "limnet-tiny",
    rounds: Annotated[int, typer.Option(min=1, help="Clicks for each object.")] = 6,
    label: Annotated[
        list[str] | None, typer.Option(help="Only this label, by number or name; may be repeated.")
    ] = None,
    nsd: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="MM", help="Tolerance of the surface Dice (default 2; 0 leaves it out). Needs monai."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Play each object this often, with other clicks.")] = 1,
    jitter: Annotated[float, typer.Option(min=0, metavar="MM", help="How far clicks miss the middle at most.")] = 0.0,
    axis: Annotated[int, typer.Option(min=0, max=2, help="Axis the slices lie along.")] = 0,
    learn: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Learn each label from the first N images and play the others with and without; may be repeated.",
        ),
    ] = None,
    device: Device = "cpu",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again; forget what was finished.")] = False,
) -> None:
    """Let a robot user segment every labelled object by clicks, and measure each round.

    Writes report.md, objects.csv (a line for each object) and rounds.csv (for each click). An interrupted run goes on
    where it stopped. The labels only tell the robot user where to click and how good the mask is.
    """
    from rich.console import Console

    from limnet.commands.evaluation import Plan, find_pairs
    from limnet.commands.evaluation import evaluate as run
    from limnet.commands.evaluation_report import write_results
    from limnet.commands.shared import exit_code, show_error
    from limnet.errors import InputError
    from limnet.segmenter import InteractiveSegmenter

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if importlib.util.find_spec("monai") is None and nsd != 0:
        how = "surface Dice (NSD) needs monai, which is not installed; run: pip install 'limnet[train]'"
        if nsd is not None:
            raise InputError(f"{how}, or leave it out by --nsd 0")
        console.print(f"{how}. It is left out", style="yellow")
        nsd = 0
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")  # of its own functions to each other
    plan = Plan(rounds, (NSD_MM if nsd is None else nsd) or None, seeds, jitter, axis, tuple(learn or ()))
    pairs = find_pairs(source)
    journal = out / "journal.jsonl"
    if fresh:
        journal.unlink(missing_ok=True)
    segmenter = InteractiveSegmenter.from_pretrained(model, device=device)
    worst: list[int] = []
    played: list[PlayedObject] = []
    missing: list[str] = []

    def tell(one: PlayedObject) -> None:
        played.append(one)
        known = f", learned from {one.learned}: proposal {one.proposal:.3f}," if one.learned else ":"
        console.print(f"{one.case}, {one.thing.name}{known} Dice {one.curve[-1]:.3f} after {len(one.rounds)} clicks")

    def complain(case: str, error: Exception) -> None:
        problem = f"{case}: {error}"
        if problem not in missing:  # learning opens a file once more for every number of finished images
            show_error(error, case)
            worst.append(exit_code(error))
            missing.append(problem)

    try:
        run(segmenter, pairs, plan, journal, only=label or (), on_object=tell, on_problem=complain)
    finally:  # what is finished is reported, whatever ends the run
        if played:
            told = f"{segmenter.name}, {len({one.case for one in played})} of {len(pairs)} images"
            report = write_results(played, plan, out, told, missing)
            typer.echo(f"{report}: {len(played)} objects")
    if worst:
        raise typer.Exit(max(worst))
