"""The app behind `limnet serve`: one address for the protocols of several programs, and who may use them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from limnet.server.guards import Guard, error_handlers
from limnet.server.protocols.clients import Protocol, ServeOptions
from limnet.server.protocols.itksnap import ItkSnap
from limnet.server.protocols.monailabel import MonaiLabel
from limnet.server.protocols.nninteractive import NNInteractive
from limnet.server.protocols.slicer_legacy import SlicerLegacy
from limnet.server.workspace import Workspace

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 15.0  # between two looks for clients that are gone


class Serve:
    """The protocols on one workspace; `app` is the ASGI app."""

    def __init__(self, workspace: Workspace, options: ServeOptions) -> None:
        self.workspace, self.options = workspace, options
        self.nninteractive = NNInteractive(workspace, options)
        self.legacy, self.itksnap = SlicerLegacy(workspace, options), ItkSnap(workspace, options)
        self.monailabel = MonaiLabel(workspace, options)
        keyless: list[Protocol[Any]] = [self.legacy, self.itksnap, self.monailabel]
        self._protocols = [*keyless, self.nninteractive]
        spoken = self._protocols if options.keyless else [self.nninteractive]
        inner = Starlette(
            routes=[route for protocol in spoken for route in protocol.routes()],
            exception_handlers=error_handlers("detail"),
            lifespan=self._lifespan,
        )
        inner.router.redirect_slashes = False  # an address is right or wrong
        self.app: ASGIApp = Guard(inner, options.hosts, options.limits.body)

    async def close(self) -> None:
        """End all clients' sessions."""
        for protocol in self._protocols:
            await protocol.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await self.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                for protocol in self._protocols:
                    await protocol.sweep()
            except Exception:
                _log.exception("sessions could not be swept")
