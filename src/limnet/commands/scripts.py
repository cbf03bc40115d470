"""`limnet run` and `limnet bench`: programs that get their arguments untouched."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from limnet.errors import InputError

ROOT = Path(__file__).resolve().parents[3]  # of a clone that is installed in place (pip install -e)


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
