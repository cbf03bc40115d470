"""What several commands have: options, and errors as one readable message and an exit code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

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


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Write what limnet warns of (`UserWarning`) to stderr like errors, without the line of code it came from."""
    from rich.console import Console
    from rich.text import Text

    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **named: Any
        ) -> None:
            if category is not UserWarning:
                usual(message, category, filename, lineno, *more, **named)
                return
            Console(stderr=True, soft_wrap=True).print(Text.assemble(("warning: ", "bold yellow"), str(message)))

        warnings.showwarning = show
        yield


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
