"""The command line: `limnet segment | view | serve | learn | evaluate | demo | zoo | convert | data | bench | run`.

Commands import what they need when they run, so that `limnet --help` answers at once. Exit codes: 0 done, 1 failure,
2 something in the command or the input is wrong, 130 cancelled.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from limnet._version import __version__
from limnet.commands.data import data_app
from limnet.commands.demo import demo
from limnet.commands.evaluate import evaluate
from limnet.commands.learn import learn_app
from limnet.commands.models import convert_app, zoo_app
from limnet.commands.segment import OrderedCommand, segment
from limnet.commands.serve import serve
from limnet.commands.shared import WRONG_INPUT, exit_code, show_error
from limnet.commands.view import view
from limnet.environment import use_threads
from limnet.errors import InputError, LimnetError

ROOT = Path(__file__).resolve().parents[2]  # of a clone that is installed in place (pip install -e)

EXTRAS = {
    **dict.fromkeys(("lightning", "torchmetrics", "monai", "wandb", "PIL"), "train"),
    **dict.fromkeys(("matplotlib", "pandas", "skimage"), "report"),
    "highdicom": "dicom",
    **dict.fromkeys(("starlette", "uvicorn", "websockets"), "view"),
    **dict.fromkeys(("blosc2", "python_multipart", "multipart"), "serve"),
}
"""Package that limnet imports where it is needed -> the extra that brings it."""


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """Write what limnet warns of (`UserWarning`) to stderr like errors, without the line of code it came from."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **named: Any
        ) -> None:
            if category is not UserWarning:
                usual(message, category, filename, lineno, *more, **named)
                return
            from rich.console import Console
            from rich.text import Text

            Console(stderr=True, soft_wrap=True).print(Text.assemble(("warning: ", "bold yellow"), str(message)))

        warnings.showwarning = show
        yield


class GuardedGroup(TyperGroup):
    """The top command: turns errors and warnings into messages without a line of code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; with `--debug` errors pass through."""
        try:
            with _shown_warnings():
                return super().invoke(ctx)
        except (LimnetError, OSError, KeyboardInterrupt) as error:
            if isinstance(error, BrokenPipeError) or (
                ctx.params.get("debug") and not isinstance(error, KeyboardInterrupt)
            ):
                raise
            show_error(error)
            raise typer.Exit(exit_code(error)) from None
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").split(".")[0])
            if extra is None or ctx.params.get("debug"):
                raise
            package = str(error.name).split(".")[0]
            show_error(InputError(f"this needs {package}, which is not installed; run: pip install 'limnet[{extra}]'"))
            raise typer.Exit(WRONG_INPUT) from None


class RawCommand(TyperCommand):
    """A command that passes on its arguments untouched, `--` and `--help` included."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep everything for the program."""
        ctx.args = list(args)
        return ctx.args


def run(ctx: typer.Context) -> None:
    """Run a training script on one or several devices, as fabric run does: limnet run SCRIPT --devices 2."""
    from limnet.training.launch import limnet_run

    raise typer.Exit(limnet_run(ctx.args))


def bench(ctx: typer.Context) -> None:
    """Run a benchmark, an analysis or a report; in a clone of the repository."""
    if not (ROOT / "benchmarks" / "cli.py").is_file() or not (ROOT / "src" / "limnet").is_dir():
        raise InputError(
            "the benchmarks are not part of the installed package: clone the repository, run "
            "pip install -e '.[train,report]' in the clone and give the command again"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    app = import_module("benchmarks.cli").bench_app
    raise typer.Exit(app(ctx.args, prog_name="limnet bench", standalone_mode=False) or 0)


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
