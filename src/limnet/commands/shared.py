"""What several commands have: options, and errors as one readable message and an exit code."""

from __future__ import annotations

from typing import Annotated

import typer

from limnet.errors import Cancelled, FileFormatError, InputError, MissingFileError, ModelNotFoundError

Model = Annotated[str, typer.Option(help="Bundled model, folder, or org/name on the Hub.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Index = Annotated[int | None, typer.Option(help="Which volume of a 4-D file, from 0.")]
Series = Annotated[str | None, typer.Option(help="Which DICOM series of a folder: UID, number or description.")]
Gaps = Annotated[
    str | None, typer.Option(metavar="refuse|resample", help="DICOM slices that make no regular grid (default refuse).")
]

FAILED, WRONG_INPUT, CANCELLED = 1, 2, 130
_INPUT = (InputError, FileFormatError, MissingFileError, ModelNotFoundError)


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
