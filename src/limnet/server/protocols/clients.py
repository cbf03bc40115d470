"""What the protocols share: clients, the image each has open, and when they are forgotten."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from limnet.image.volume import Volume
from limnet.server.guards import LOOPBACK
from limnet.server.protocols.annotation import Annotation
from limnet.server.protocols.requests import Limits
from limnet.server.workspace import Workspace


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
    """

    model: str = "limnet"
    key: str | None = None
    keyless: bool = True
    hosts: Collection[str] = LOOPBACK
    datastore: Path | None = None
    base: str = "limnet-tiny"
    labels: Sequence[str] = ("object",)
    limits: Limits = field(default_factory=Limits)


@dataclass(eq=False)
class Client:
    """Somebody who works on an image, one request at a time; it last `acted` then, by `time.monotonic`."""

    key: str = field(default_factory=lambda: secrets.token_hex(16))
    annotation: Annotation | None = None
    acted: float = field(default_factory=time.monotonic)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def close(self) -> None:
        """Let go of its image."""
        annotation, self.annotation = self.annotation, None
        if annotation is not None:
            annotation.close()


Someone = TypeVar("Someone", bound=Client)


class Protocol(Generic[Someone]):
    """A protocol on a workspace, with its clients by key."""

    idle = 3600.0  # seconds after which a client that does nothing is forgotten

    def __init__(self, workspace: Workspace, options: ServeOptions) -> None:
        self.workspace, self.options, self.limits = workspace, options, options.limits
        self.clients: dict[str, Someone] = {}

    def routes(self) -> list[Route]:
        """Its addresses."""
        raise NotImplementedError

    def check_room(self, more: int = 0) -> None:
        """Refuse another image (503) where enough are held, or `more` clients may still send one."""
        most = self.limits.cases
        if max(len(self.workspace.cases), more) >= most:
            detail = f"server is at capacity ({most} images): close one, or try later"
            raise HTTPException(503, detail, {"Retry-After": "10"})

    def is_over(self, client: Someone) -> bool:
        """Whether a client has done nothing for too long."""
        return time.monotonic() - client.acted > self.idle

    async def sweep(self) -> None:
        """Forget clients that are over."""
        for client in list(self.clients.values()):
            if self.is_over(client):
                await self.end(client.key)

    async def close(self) -> None:
        """Forget all clients."""
        for key in list(self.clients):
            await self.end(key)

    async def end(self, key: str) -> None:
        """Forget a client, if there is one of that key."""
        client = self.clients.pop(key, None)
        if client is not None:
            await run_in_threadpool(client.close)

    async def show(self, client: Someone, volume: Volume) -> bool:
        """Open another image for a client whose turn it is; False if the client was forgotten meanwhile."""
        await run_in_threadpool(client.close)
        self.check_room()
        annotation = await run_in_threadpool(Annotation, self.workspace, volume)
        if self.clients.get(client.key) is not client:
            await run_in_threadpool(annotation.close)
            return False
        client.annotation = annotation
        return True

    def gone(self, request: Request) -> Callable[[], Awaitable[bool]]:
        """A function that tells whether the sender has hung up, or has waited as long as a round may take."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limits.seconds

        async def gone() -> bool:
            return loop.time() > end or await request.is_disconnected()

        return gone
