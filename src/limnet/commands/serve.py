"""`limnet serve`: the server that 3D Slicer, napari, MITK, ITK-SNAP and MONAI Label clients connect to."""

from __future__ import annotations

import contextlib
import socket
from typing import Annotated

import typer

from limnet.commands.shared import Device, Model

PORT = 1527  # of the nnInteractive server, which clients propose


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; another than 127.0.0.1 needs --key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = PORT,
    key: Annotated[
        str | None,
        typer.Option(help="What clients have to know; better as LIMNET_KEY.", envvar="LIMNET_KEY", show_envvar=False),
    ] = None,
    allow_keyless: Annotated[
        bool,
        typer.Option(
            "--allow-keyless",
            help="Speak the protocols that know no key (ITK-SNAP, MONAI Label, old Slicer extensions) even where a key "
            "is set or other machines can connect: anybody who reaches the port can use them.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name this machine is called by. Repeatable.")
    ] = None,
    datastore: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Images and labels for MONAI Label clients.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A structure that MONAI Label clients offer. Repeatable.")
    ] = None,
    max_sessions: Annotated[int, typer.Option(min=1, max=1000, help="Images held at once.")] = 8,
    model: Model = "limnet-tiny",
    device: Device = "cpu",
) -> None:
    """Serve 3D Slicer, napari, MITK, ITK-SNAP and MONAI Label.

    limnet serve
    """
    from pathlib import Path

    from limnet.errors import InputError

    loopback = host in ("127.0.0.1", "localhost", "::1")
    if not loopback and not key:
        raise InputError(
            f"other machines could connect to {host}: give a key they have to know, as LIMNET_KEY=... or --key"
        )
    if key is not None and (len(key) < 8 or not key.isascii() or not key.isprintable()):
        raise InputError("the key needs at least 8 letters, digits or signs")
    from limnet.segmenter import InteractiveSegmenter
    from limnet.server.guards import LOOPBACK
    from limnet.server.protocols.requests import Limits
    from limnet.server.serve_app import Serve, ServeOptions
    from limnet.server.serving import listen, server_for
    from limnet.server.workspace import Workspace

    segmenter = InteractiveSegmenter.from_pretrained(model, device=device)
    made = listen(port, host=host)
    keyless = allow_keyless or (loopback and key is None)
    names = {*LOOPBACK, *_names(host), *(name.lower() for name in allow_host or [])}
    options = ServeOptions(
        model=Path(model).name,
        key=key,
        keyless=keyless,
        hosts=names,
        datastore=None if datastore is None else Path(datastore),
        base=model,
        labels=label or ["object"],
        limits=Limits(cases=max_sessions),
    )
    with Workspace(segmenter) as workspace:
        running = server_for(Serve(workspace, options).app, pages=False)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        typer.echo(f"limnet serves {options.model} at http://{shown}:{made.getsockname()[1]} (Ctrl-C ends it)")
        typer.echo("  nnInteractive clients (3D Slicer, napari, MITK): this address" + (" and the key" if key else ""))
        if keyless:
            typer.echo("  ITK-SNAP: this host and port; MONAI Label and old Slicer extensions: this address")
        else:
            typer.echo("  ITK-SNAP, MONAI Label and old Slicer extensions are off: they know no key (--allow-keyless)")
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a server ends
            running.run(sockets=[made])


def _names(host: str) -> set[str]:
    """Names that clients on other machines may call this one by."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return set()
    found = {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    try:
        addresses = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        addresses = []
    for *_, address in addresses:
        found.add(str(address[0]).lower())
    return {f"[{name}]" if ":" in name else name for name in found}
