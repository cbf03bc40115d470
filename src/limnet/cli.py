"""The command line: `limnet segment | view | serve | learn | evaluate | demo | zoo | convert | data | bench | run`.

Commands import what they need when they run, so that `limnet --help` answers at once. Exit codes: 0 done, 1 failure,
2 something in the command or the input is wrong, 130 cancelled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from limnet._version import __version__
from limnet.commands.convert import convert_app
from limnet.commands.data import data_app
from limnet.commands.demo import demo
from limnet.commands.evaluate import evaluate
from limnet.commands.guard import GuardedGroup
from limnet.commands.learn import learn_app
from limnet.commands.scripts import RawCommand, bench, run
from limnet.commands.segment import OrderedCommand, segment
from limnet.commands.serve import serve
from limnet.commands.view import view
from limnet.commands.zoo import zoo_app
from limnet.environment import use_threads

app = typer.Typer(
    cls=GuardedGroup,
    help="Segment any structure in a 3D image by a few clicks. limnet COMMAND -h explains a command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=OrderedCommand)(segment)
app.command()(view)
app.command()(demo)
app.command()(serve)
app.command()(evaluate)
app.add_typer(learn_app, name="learn")
app.add_typer(zoo_app, name="zoo")
app.add_typer(convert_app, name="convert")
app.add_typer(data_app, name="data")
app.command(cls=RawCommand, add_help_option=False)(bench)
app.command(cls=RawCommand, add_help_option=False)(run)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"limnet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", envvar="LIMNET_DEBUG")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options that stand before the command; `GuardedGroup` reads them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    use_threads()
    app(list(sys.argv[1:] if argv is None else argv), prog_name="limnet")
