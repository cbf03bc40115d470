"""Errors become one readable message and an exit code."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from limnet.errors import (
    Cancelled,
    FileFormatError,
    InputError,
    LimnetError,
    MissingFileError,
    ModelNotFoundError,
)

FAILED, WRONG_INPUT, CANCELLED = 1, 2, 130
EXTRAS = {
    **dict.fromkeys(("lightning", "torchmetrics", "monai", "wandb", "PIL"), "train"),
    **dict.fromkeys(("matplotlib", "pandas", "skimage"), "report"),
    "highdicom": "dicom",
    **dict.fromkeys(("starlette", "uvicorn", "websockets"), "view"),
    **dict.fromkeys(("blosc2", "python_multipart", "multipart"), "serve"),
}
"""Package that limnet imports where it is needed -> the extra that brings it."""
_INPUT = (InputError, FileFormatError, MissingFileError, ModelNotFoundError)


class GuardedGroup(TyperGroup):
    """The top command: turns errors of limnet and of the system into messages without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; with `--debug` errors pass through."""
        try:
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


def exit_code(error: BaseException) -> int:
    """2 for what the user can correct, 130 for a cancelled command, else 1."""
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return CANCELLED
    return WRONG_INPUT if isinstance(error, _INPUT) else FAILED


def show_error(error: BaseException, where: str = "") -> None:
    """Write the message of an error to stderr, after the name of what it happened to."""
    from rich.console import Console
    from rich.text import Text

    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        text, style = "cancelled", "yellow"
    else:
        text, style = str(error) or type(error).__name__, "bold red"
    label = "" if style == "yellow" else "error: "
    Console(stderr=True, soft_wrap=True).print(Text.assemble((f"{where}: " if where else ""), (label, style), text))
