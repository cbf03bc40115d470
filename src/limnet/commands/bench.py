"""`limnet bench`: the benchmarks, which are a part of the repository and not of the installed package."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import typer

from limnet.errors import InputError

ROOT = Path(__file__).resolve().parents[3]  # of a clone that is installed in place (pip install -e)


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
