"""`limnet data`: the data sets limnet reads, and whether a folder is one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="Data sets: list them, check a folder.", no_args_is_help=True)
MOST = 100
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Of the data set (limnet data list), or NAME:option=value,option=value."),
]
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="The folder it lies in.")]


@data_app.command("list")
def list_datasets() -> None:
    """List the data sets that can be read, with licence and access. Nothing is downloaded."""
    from rich.console import Console

    from limnet.datasets.registry import dataset_class, dataset_names

    console = Console(soft_wrap=True, highlight=False)  # an address that is broken in two is of no use
    for name in dataset_names():
        found = dataset_class(name)
        console.print(f"[bold]{name}[/]: {found.title} ({', '.join(found.splits)})")
        console.print(f"    licence: {found.licence}\n    access:  {found.access}", markup=False)


@data_app.command()
def count(name: Name, root: Root) -> None:
    """Count slices with object in every split, beside the LIM-Net paper's Table III. Reads all labels, no images."""
    from rich.console import Console
    from rich.table import Table

    from limnet.commands.shared import FAILED
    from limnet.datasets.counts import PAPER, count_slices
    from limnet.datasets.registry import open_dataset, parse_options

    console = Console(soft_wrap=True, highlight=False)
    name, options = parse_options(name)
    dataset = open_dataset(name, root, **options)
    published = PAPER.get((name, getattr(dataset, "protocol", None)), {})
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("split", "cases", "slices", "with object", "Table III", "slices with each label"):
        table.add_column(title, justify="left" if title.startswith(("split", "slices with")) else "right")
    unread: dict[str, str] = {}
    for split in dataset.splits:
        with Console(stderr=True).status(f"reading {split} of {root} ..."):
            found = count_slices(dataset, split)
        labels = ", ".join(f"{label} {number}" for label, number in found.labels.items())
        if len(found.labels) > 1:
            labels += f" (in all {sum(found.labels.values())})"
        numbers = [str(n) for n in (found.cases, found.slices, found.filled, published.get(split, "–"))]
        table.add_row(split, *numbers, labels)
        unread |= found.unread
    console.print(table)
    for case, fault in unread.items():
        console.print(f"{case} is not counted: {fault}", markup=False)
    if unread:
        raise typer.Exit(FAILED)


@data_app.command()
def check(
    name: Name,
    root: Root,
    show: Annotated[int, typer.Option("--show", help="Problems to print; 0 prints all.", min=0)] = MOST,
) -> None:
    """Read every file of a folder: counts, pairs, shapes, labels, affines. Exit code 1 if something is wrong."""
    from rich.console import Console

    from limnet.commands.shared import FAILED
    from limnet.data.dataset import Problem
    from limnet.datasets.registry import dataset_class, open_dataset, parse_options
    from limnet.errors import FileFormatError, MissingFileError

    console = Console(soft_wrap=True, highlight=False)
    name, options = parse_options(name)
    kind = dataset_class(name)
    problems: list[Problem] = []
    try:
        with Console(stderr=True).status(f"reading {root} ..."):
            dataset = open_dataset(name, root, **options)
            problems = dataset.check()  # first, so that what it tells is not warned of as well
            counts = {split: len(dataset.cases(split)) for split in dataset.splits}
    except (MissingFileError, FileFormatError) as error:
        problems = [Problem("", str(error), "nothing more can be said before that is mended")]
    else:
        numbers = ", ".join(f"{split} {number}" for split, number in counts.items())
        console.print(f"{kind.title} in {root}: {sum(counts.values())} labelled cases ({numbers})", markup=False)
    shown = problems[: show or None]
    for problem in shown:
        where = f"{problem.case}: " if problem.case else ""
        console.print(f"  {where}{problem.what}\n    -> {problem.advice}", markup=False)
    if len(problems) > len(shown):
        console.print(f"  and {len(problems) - len(shown)} more: --show 0 prints all", markup=False)
    if problems:
        console.print(f"{len(problems)} problem(s)", markup=False)
        raise typer.Exit(FAILED)
    console.print("all is well", markup=False)
