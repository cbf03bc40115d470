"""The app behind `limnet serve`: one address for the protocols of several programs, and who may use them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from limnet.errors import Cancelled, LimnetError
from limnet.server.guards import LOOPBACK, Guard
from limnet.server.protocols.itksnap import ItkSnap
from limnet.server.protocols.monailabel import MonaiLabel
from limnet.server.protocols.nninteractive import LEASE, SWEEP_SECONDS, NNInteractive
from limnet.server.protocols.requests import Handler, Limits, status_of
from limnet.server.protocols.slicer_legacy import SlicerLegacy
from limnet.server.workspace import Workspace

_log = logging.getLogger(__name__)


@dataclass
class ServeOptions:
    """How a server is set up.

    Attributes:
        model: Name of the model, which clients show.
        key: What clients have to know, None for nothing.
        keyless: Whether protocols without a key are spoken: ITK-SNAP, MONAI Label and old Slicer extensions.
        hosts: Names this server is called by, without port.
        datastore: Folder of images and labels for MONAI Label clients; None for one that ends with the server.
        base: Name or folder of the model, that a training starts from.
        labels: Names of structures that MONAI Label clients offer at first.
        limits: How much clients may ask for.
    """

    model: str = "limnet"
    key: str | None = None
    keyless: bool = True
    hosts: Collection[str] = LOOPBACK
    datastore: Path | None = None
    base: str = "limnet-tiny"
    labels: Sequence[str] = ("object",)
    limits: Limits = field(default_factory=Limits)


class Serve:
    """The protocols on one workspace; `app` is the ASGI app."""

    def __init__(self, workspace: Workspace, options: ServeOptions) -> None:
        self.workspace, self.options = workspace, options
        self.nninteractive = NNInteractive(workspace, options.limits, options.model, options.key)
        self.legacy = SlicerLegacy(workspace, options.limits)
        self.itksnap = ItkSnap(workspace, options.limits)
        self.monailabel = MonaiLabel(
            workspace, options.limits, options.model, options.labels, options.datastore, options.base
        )
        self._protocols = (self.nninteractive, self.legacy, self.itksnap, self.monailabel)
        leased = self.nninteractive.shared()
        routes: list[BaseRoute] = list(self.nninteractive.routes())
        unleased: dict[str, Handler] = {}
        if options.keyless:
            routes += [*self.legacy.routes(), *self.itksnap.routes(), *self.monailabel.routes()]
            unleased = self.legacy.shared()
        routes += [
            Route(path, _by_lease(handler, unleased.get(path)), methods=["POST"]) for path, handler in leased.items()
        ]
        inner = Starlette(
            routes=routes,
            exception_handlers={LimnetError: _refused, HTTPException: _http_error, Exception: _failed},
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
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                for protocol in self._protocols:
                    await protocol.sweep()
            except Exception:
                _log.exception("sessions could not be swept")


def _by_lease(leased: Handler, legacy: Handler | None) -> Handler:
    """Two protocols share these addresses; the newer one sends a lease token."""

    async def handle(request: Request) -> Response:
        if legacy is None or LEASE in request.headers:
            return await leased(request)
        return await legacy(request)

    return handle


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Cancelled):
        return JSONResponse({"detail": str(error)}, 400)
    status = status_of(error) if isinstance(error, LimnetError) else 400
    return JSONResponse({"detail": str(error)}, status)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code, dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": f"something went wrong inside limnet ({type(error).__name__})"}, 500)
