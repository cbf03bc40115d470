"""Serving an app on this machine only: a socket, and uvicorn on it, in this thread or in one of its own."""

from __future__ import annotations

import errno
import os
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from limnet.errors import InputError, LimnetError

_LARGEST_MESSAGE = 1 << 20  # bytes of a WebSocket message from a page: the outline of any brush stroke fits
_GRACE = 3  # seconds that open connections get when the server ends


def listen(port: int | None, usual: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """A listening socket, 0 for any free port; None for the usual one, or any if that is taken.

    InputError if the port asked for is taken or not allowed, or the address is not this machine's.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if os.name != "nt":  # there it would let two servers share the port
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            made.bind((host, usual if port is None else port))
        except OSError:
            if port is not None:
                raise
            made.bind((host, 0))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} is taken by another program: give another one, or 0 for any") from error
        raise InputError(f"cannot listen at {host}:{port} ({error}): give another port, or 0 for any") from error
    return made


def server_for(app: ASGIApp, pages: bool = True) -> uvicorn.Server:
    """A uvicorn server; with `pages` for WebSockets, too."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="auto" if pages else "none",
        ws_max_size=_LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # patches are compressed already
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    return uvicorn.Server(config)


class Background:
    """An app served on a listening socket from a thread of its own, for notebooks and tests."""

    def __init__(self, app: ASGIApp, made: socket.socket) -> None:
        self.port: int = made.getsockname()[1]
        self._server = server_for(app)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(made,), name="limnet-view", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise LimnetError("the server of the viewer did not start: see its message above")
            self._started.wait(0.01)

    def _run(self, made: socket.socket) -> None:
        self._server.run(sockets=[made])

    def stop(self) -> None:
        """End the server and wait for it."""
        self._server.should_exit = True
        self._thread.join(_GRACE + 5)
