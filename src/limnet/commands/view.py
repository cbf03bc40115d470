"""`limnet view`: see a volume and click it, in the browser."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limnet.commands.shared import Device, Gaps, Index, Model, Series

if TYPE_CHECKING:
    from limnet.segmenter import InteractiveSegmenter

PORT = 1530  # the usual port, so that a page left open finds the server again after a restart


def view(
    volume: Annotated[
        Path | None,
        typer.Argument(
            help="Volume to open (NIfTI, NRRD, MHA, npy/npz, DICOM folder, frames), session, or folder to choose in."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the default browser.")] = True,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"Port on this machine (default {PORT}, or any free one).")
    ] = None,
    model: Model = "limnet-tiny",
    device: Device = "cpu",
    index: Index = None,
    series: Series = None,
    gaps: Gaps = "refuse",
) -> None:
    """See a volume in three planes and segment it by clicks, in the browser. Nothing leaves this machine.

    Every step is kept: close the page or the program at any time and go on later from the list of sessions.
    """
    from rich.console import Console

    from limnet.errors import InputError
    from limnet.image.volume import check_gaps
    from limnet.server.app import view_app
    from limnet.server.serving import listen, server_for
    from limnet.server.view_server import ViewServer
    from limnet.server.workspace import Workspace

    console = Console(stderr=True, soft_wrap=True)
    root, wanted = chosen(volume)
    filling = check_gaps(gaps or "refuse")
    if (wanted is None or wanted.suffix == ".limnet") and (index, series) != (None, None):
        raise InputError("--index and --series choose within a volume: give the file or DICOM folder, too")

    def load() -> InteractiveSegmenter:
        from limnet.segmenter import InteractiveSegmenter

        return InteractiveSegmenter.from_pretrained(model, device=device)

    with Workspace(load) as workspace:
        server = ViewServer(workspace, root)
        if wanted is not None:
            console.print(f"reading {wanted}")
            server.start = str(server.open_file(wanted, index, series, filling)["name"])
        else:
            threading.Thread(target=_warm_up, args=(workspace,), daemon=True).start()
        listening = listen(port, PORT)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/#t={server.token}"
        running = server_for(view_app(server))
        typer.echo(f"limnet view: {address}")
        console.print("The address is good for one browser. Ctrl-C ends the program; nothing is lost.", style="dim")
        if browser:
            threading.Timer(0.2, webbrowser.open, args=(address,)).start()
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a server ends
            running.run(sockets=[listening])


def chosen(path: Path | None) -> tuple[Path, Path | None]:
    """(folder to look into, volume to open or None) for the argument; a folder of the demo opens the demo's image."""
    from limnet.errors import MissingFileError
    from limnet.server.files import is_series

    if path is None:
        return Path.cwd(), None
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise MissingFileError(f"{path} does not exist: give a volume, or a folder with volumes")
    if not path.is_dir():
        return path.parent, path
    if is_series(path):
        return path.parent, path
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        image = path / json.loads((path / "results.json").read_text(encoding="utf-8"))["image"]
        if image.is_file() and image.resolve().is_relative_to(path):
            return path, image
    return path, None


def _warm_up(workspace: object) -> None:
    """Load the model while the user chooses a file; if that fails, opening a file tells why."""
    with contextlib.suppress(Exception):
        workspace.segmenter  # type: ignore[attr-defined]  # noqa: B018
