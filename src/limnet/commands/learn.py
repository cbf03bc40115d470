"""`limnet learn`: what finished cases teach, for `limnet segment --propose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limnet.commands.shared import Device, Model
from limnet.errors import InputError

learn_app = typer.Typer(help="Learn a task from finished cases: from, list, remove.", no_args_is_help=True)
Folder = Annotated[Path | None, typer.Option(help="Where it is kept; your own folder by default.")]


@learn_app.command("from")
def learn_from(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task, such as hippocampus.")],
    sessions: Annotated[list[Path] | None, typer.Argument(metavar="SESSION...", help="Sessions (.limnet).")] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE,MASK", help="An image and its finished mask, in place of a session. Repeatable."),
    ] = None,
    object_name: Annotated[
        str | None, typer.Option("--object", help="Which object of the sessions; the first marked one by default.")
    ] = None,
    label: Annotated[int | None, typer.Option(help="Which label of the masks.")] = None,
    model: Model = "limnet-tiny",
    device: Device = "cpu",
    folder: Folder = None,
) -> None:
    """Learn from 1 to 20 finished cases; takes one to three minutes.

    limnet learn from hippocampus case1.limnet case2.limnet
    limnet segment next.nii.gz --propose hippocampus --out mask.nii.gz
    """
    from rich.console import Console
    from rich.progress import Progress

    from limnet.image.io.formats import read_single
    from limnet.learning.adapter import checked_name, path_of
    from limnet.segmenter import InteractiveSegmenter

    checked_name(name)
    pairs = [_pair(text) for text in case or []]
    if not pairs and not sessions:
        raise InputError("give finished cases: sessions, or images with masks by --case IMAGE,MASK")
    given: list[Path | tuple[Path, Path]] = [*(sessions or []), *pairs]
    if twice := next((one for one in given if given.count(one) > 1), None):
        raise InputError(f"{twice if isinstance(twice, Path) else twice[0]} came twice: give every case once")
    if object_name is not None and not sessions:
        raise InputError("--object says which object of sessions is meant; give sessions, or leave it out")
    if label is not None and not pairs:
        raise InputError("--label says which label of the masks of --case is meant; give --case, or leave it out")
    segmenter = InteractiveSegmenter.from_pretrained(model, device=device)
    finished = []
    for session in sessions or []:
        opened = segmenter.resume(session)
        marked = [known for known in opened.objects if opened.object(known).mask.any()]
        if object_name is not None and object_name not in marked:
            raise InputError(
                f"{session} has no mask of {object_name!r}; marked in it: {', '.join(marked) or 'nothing'}"
            )
        if not marked:
            raise InputError(f"nothing is marked in {session}: give sessions with a finished object")
        finished.append(opened.object(object_name or marked[0]))
    for image, mask in pairs:
        opened = segmenter.open(read_single(image))
        opened.set_mask(mask, frozen=False, label=label)
        finished.append(opened)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name)
        adapter = segmenter.learn(
            finished, name, folder=folder, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    fits = "cases held out" if adapter.cases > 1 else "its own case"
    typer.echo(
        f"{path_of(name, folder)}: learned from {adapter.cases} case(s), fits {fits} with a Dice of {adapter.fit:.2f}"
    )


@learn_app.command("list")
def list_learned(folder: Folder = None) -> None:
    """List what was learned."""
    from limnet.environment import user_folder
    from limnet.learning.adapter import list_adapters, read_adapter

    names = list_adapters(folder)
    if not names:
        typer.echo(f"nothing was learned yet in {folder or user_folder('adapters')}", err=True)
    for name in names:
        found = read_adapter(name, folder)
        typer.echo(f"{name}: {found.cases} case(s), {found.modality or 'any modality'}, fit {found.fit:.2f}")


@learn_app.command("remove")
def remove(name: Annotated[str, typer.Argument(metavar="NAME")], folder: Folder = None) -> None:
    """Delete what was learned under a name."""
    from limnet.learning.adapter import remove_adapter

    remove_adapter(name, folder)


def _pair(text: str) -> tuple[Path, Path]:
    image, comma, mask = text.rpartition(",")
    if not (image and comma and mask):
        raise InputError(f"--case {text!r} came: give an image and its mask, such as --case ct.nii.gz,liver.nii.gz")
    return Path(image), Path(mask)
