"""`limnet run`: start a training script."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand


class RawCommand(TyperCommand):
    """A command that passes on its arguments untouched, `--` and `--help` included."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep everything for the launcher."""
        ctx.args = list(args)
        return ctx.args


def run(ctx: typer.Context) -> None:
    """Run a training script on one or several devices, as fabric run does: limnet run SCRIPT --devices 2."""
    from limnet.training.launch import limnet_run

    raise typer.Exit(limnet_run(ctx.args))
