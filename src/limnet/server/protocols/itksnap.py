"""The protocol of ITK-SNAP's deep-learning tools (its "DLS" servers): sessions by number, whole masks, no key."""

from __future__ import annotations

import base64
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.prompts import Prompt
from limnet.server.protocols.annotation import Annotation
from limnet.server.protocols.clients import Client, Protocol
from limnet.server.protocols.requests import (
    TooLargeError,
    UnknownError,
    as_object,
    flag,
    gunzip,
    gzipped,
    numbers,
    part,
    read_form,
)

_VERSION = "0.1.6"  # of the server whose protocol this is: ITK-SNAP compares the numbers
_MODEL = "limnet"
Handler = Callable[[Request, Client], Awaitable[Response]]


class ItkSnap(Protocol[Client]):
    """The protocol."""

    def routes(self) -> list[Route]:
        """Its addresses; those of version 2 are understood with and without their prefix."""
        found = [
            Route("/status", self._status),
            Route("/v2/models", self._models),
            Route("/start_session", self._start),
        ]
        kinds = {"scribble": Annotation.scribble, "lasso": Annotation.lasso}
        regions = {kind: partial(self._region, prompts) for kind, prompts in kinds.items()}
        for prefix in ("", "/v2"):
            found += [
                Route(f"{prefix}/start_session/{{model}}", self._start),
                Route(f"{prefix}/end_session/{{session}}", self._end),
                Route(f"{prefix}/upload_raw/{{session}}", self._of_session(self._upload), methods=["POST"]),
                Route(f"{prefix}/process_point_interaction/{{session}}", self._of_session(self._point)),
                *(
                    Route(f"{prefix}/process_{kind}_interaction/{{session}}", self._of_session(mark), methods=["POST"])
                    for kind, mark in regions.items()
                ),
                # nnInteractive clients have a POST of nearly the same name, without a session
                Route(f"{prefix}/reset_interactions/{{session}}", self._of_session(self._reset)),
            ]
        return found

    def _of_session(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            client = self.clients.get(request.path_params["session"])
            if client is None:
                return _invalid()
            client.acted = time.monotonic()
            return await handler(request, client)

        return handle

    async def _status(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": _VERSION})

    async def _models(self, request: Request) -> Response:
        about = {"id": _MODEL, "channels": [1], "dimensions": 3, "interactions": ["point", "scribble", "lasso"]}
        return JSONResponse({"models": [about]})

    async def _start(self, request: Request) -> Response:
        model = request.path_params.get("model", _MODEL)
        if model != _MODEL:
            raise UnknownError(f"there is no model {model[:40]!r}: the model is {_MODEL!r}")
        await self.sweep()
        self.check_room(len(self.clients))
        client = Client()
        self.clients[client.key] = client
        return JSONResponse({"session_id": client.key})

    async def _end(self, request: Request) -> Response:
        await self.end(request.path_params["session"])
        return JSONResponse({"status": "session ended"})

    async def _upload(self, request: Request, client: Client) -> Response:
        async with self.limits.uploads:
            values, about = await self._image(request)
        spacing = about.get("spacing")
        steps = None if spacing is None else numbers(spacing, 3, "spacing")[::-1]
        volume = Volume.from_array(values, steps)
        async with client.turn:
            return JSONResponse({"status": "success"}) if await self.show(client, volume) else _invalid()

    async def _point(self, request: Request, client: Client) -> Response:
        query = request.query_params
        values: list[Any] = query.getlist("point") or [query[name] for name in "xyz" if name in query]
        with contextlib.suppress(ValueError):
            values = [float(v) for v in values]
        point = numbers(values, 3, "point")[::-1]
        return await self._mark(request, client, lambda a, positive: a.point(point, positive))

    async def _region(self, prompts: Callable[..., Sequence[Prompt]], request: Request, client: Client) -> Response:
        async with self.limits.uploads:
            mask = (await self._image(request))[0] != 0
        return await self._mark(request, client, lambda a, positive: prompts(a, mask, positive))

    async def _mark(
        self, request: Request, client: Client, prompts: Callable[[Annotation, bool], Sequence[Prompt]]
    ) -> Response:
        positive = flag(request.query_params, "foreground", True, words=True)
        async with client.turn:
            annotation = client.annotation
            if annotation is None:
                raise InputError("there is no image: upload one first")
            await annotation.mark(lambda a: prompts(a, positive), True, self.gone(request))
            text = await run_in_threadpool(_result, annotation)
        return JSONResponse({"status": "success", "result": text})

    async def _reset(self, request: Request, client: Client) -> Response:
        async with client.turn:
            if client.annotation is not None:
                await client.annotation.reset(self.gone(request))
        return JSONResponse({"status": "success"})

    async def _image(self, request: Request) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """(z, y, x) float32 values of an upload, and its description."""
        form = await read_form(request, self.limits)
        about = as_object(part(form, "metadata"), "metadata")
        size = about.get("dimensions")
        if not isinstance(size, list) or len(size) != 3 or not all(type(n) is int and 0 < n < 1 << 31 for n in size):
            raise InputError(f"dimensions are three numbers of voxels, got {str(size)[:60]}")
        if about.get("components_per_pixel", 1) != 1:
            raise InputError("images with several components per voxel are not taken")
        expected = math.prod(size) * 4
        if expected > self.limits.array:
            raise TooLargeError(f"an image of {expected} bytes is too large: at most {self.limits.array} are taken")
        data = await run_in_threadpool(gunzip, part(form, "file"), expected)
        if len(data) != expected:
            raise InputError(f"{len(data)} bytes came for {size} voxels of 4 bytes")
        return np.frombuffer(data, dtype="<f4").reshape(size[::-1]), about


def _invalid() -> Response:
    """What ITK-SNAP knows for a session that is over: it starts another one."""
    return JSONResponse({"error": "Invalid session"})


def _result(annotation: Annotation) -> str:
    return base64.b64encode(gzipped(annotation.mask.astype(np.uint8).tobytes())).decode("ascii")
