"""`limnet zoo` and `limnet convert`: bundled models, what is in a model folder, public checkpoints made into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

zoo_app = typer.Typer(help="Bundled models: list, show, verify.", no_args_is_help=True)
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of a bundled model, a folder, or org/name on the Hub.")
]


@zoo_app.command("list")
def list_models() -> None:
    """List the bundled models."""
    from rich.console import Console
    from rich.table import Table

    from limnet.hub.card import describe_model
    from limnet.hub.model import list_zoo, locate

    names = list_zoo()
    if not names:
        typer.echo("no model is bundled with this installation; give a folder or a Hub repository to --model")
        return
    table = Table("model", "networks", "parameters", "size", "licence", box=None, header_style="bold")
    for name in names:
        found = describe_model(locate(name))
        networks = ", ".join(c["class"] for c in found["components"].values() if c)
        table.add_row(
            name, networks, _count(found["parameters"]), _size(found["bytes"]), found["license"] or "not stated"
        )
    Console().print(table)


@zoo_app.command()
def show(model: Model) -> None:
    """Show a model: networks, settings, measured results, card."""
    from rich.console import Console
    from rich.markdown import Markdown

    from limnet.hub.card import describe_model
    from limnet.hub.model import locate, read_card

    folder = locate(model)
    found = describe_model(folder)
    console = Console()
    console.print(
        f"[bold]{found['name']}[/]  {_count(found['parameters'])} parameters, {_size(found['bytes'])}, {folder}"
    )
    console.print(_component_table(found))
    card = read_card(folder)
    if card:
        console.print(Markdown(_body(card)))


@zoo_app.command()
def verify(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models to check; all bundled ones by default.")
    ] = None,
) -> None:
    """Check that models load strictly and repeat the output stored with them."""
    from limnet.commands.shared import FAILED, exit_code, show_error
    from limnet.errors import LimnetError
    from limnet.hub.model import list_zoo, locate
    from limnet.hub.verify import verify_model

    names = models or list_zoo()
    if not names:
        typer.echo("no model is bundled with this installation; name a folder or a Hub repository")
        raise typer.Exit(FAILED)
    worst = 0
    for name in names:
        try:
            problems = verify_model(locate(name))
        except LimnetError as error:
            show_error(error, name)
            worst = max(worst, exit_code(error))
            continue
        fatal = sum(problem.fatal for problem in problems)
        worst = max(worst, FAILED * (fatal > 0))
        typer.echo(f"{name}: {f'{fatal} problem(s)' if fatal else 'ok'}")
        for problem in problems:
            typer.echo(f"  {'' if problem.fatal else '(not fatal) '}{problem}")
    if worst:
        raise typer.Exit(worst)


def _component_table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("role", "class", "parameters", "size", "weights", box=None, header_style="bold")
    for role, c in found["components"].items():
        if c is None:
            table.add_row(role, "none")
        else:
            table.add_row(role, c["class"], _count(c["parameters"]), _size(c["bytes"]), ", ".join(c["dtypes"]))
    return table


def _body(card: str) -> str:
    """A card without its YAML head."""
    parts = card.split("---\n", 2)
    return parts[2] if card.startswith("---\n") and len(parts) == 3 else card


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


convert_app = typer.Typer(help="Convert a public checkpoint file to a limnet folder.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="FILE", help="The downloaded checkpoint (.pth).")]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")]
Half = Annotated[
    bool, typer.Option("--half", help="Store the weights as float16: half the size, results differ slightly.")
]
KINDS = {
    "ritm": "RITM (HRNet + OCR) to an interaction network.",
    "xmem": "XMem to a propagation network.",
    "imagenet-resnet": (
        "ResNet-18, 34 or 50 of torchvision to the start of a quality network (`quality.py train --init`)."
    ),
}


def _command(kind: str) -> Callable[[Path, Path, bool], None]:
    def convert(source: Source, out: Target, half: Half = False) -> None:
        import limnet.hub.convert
        from limnet.hub.card import describe_component

        getattr(limnet.hub.convert, f"convert_{kind.replace('-', '_')}")(source, out, half=half)
        found = describe_component(out)
        typer.echo(f"{found['class']}, {found['parameters'] / 1e6:.1f} million parameters: wrote {out}")

    return convert


for _kind, _help in KINDS.items():
    convert_app.command(_kind, help=_help)(_command(_kind))
