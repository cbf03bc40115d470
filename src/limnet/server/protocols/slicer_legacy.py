"""The protocol of the nnInteractive extension for 3D Slicer before version 1.0: one image, no sessions, no key.

Whoever uploads an image replaces the one before; masks are answered whole, one bit per voxel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.server.protocols.annotation import Annotation
from limnet.server.protocols.clients import Client, Protocol
from limnet.server.protocols.nninteractive import LEASE
from limnet.server.protocols.requests import flag, gunzip, gzipped, numbers, part, read_form, read_json, read_npy


class _Unleased(Route):
    """An address that clients of the newer protocol use as well, with a lease token."""

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        if scope["type"] == "http" and LEASE in Headers(scope=scope):
            return Match.NONE, {}
        return super().matches(scope)


class SlicerLegacy(Protocol[Client]):
    """The protocol; all who speak it are one client."""

    def routes(self) -> list[Route]:
        """Its addresses."""
        return [
            Route("/", self._there),
            Route("/upload_image", self._image, methods=["POST"]),
            Route("/upload_segment", self._segment, methods=["POST"]),
            _Unleased("/add_point_interaction", self._point, methods=["POST"]),
            _Unleased("/add_bbox_interaction", self._box, methods=["POST"]),
            _Unleased("/add_scribble_interaction", partial(self._region, Annotation.scribble), methods=["POST"]),
            _Unleased("/add_lasso_interaction", partial(self._region, Annotation.lasso), methods=["POST"]),
        ]

    async def _there(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _image(self, request: Request) -> Response:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            array = await run_in_threadpool(read_npy, part(form, "file"), self.limits.array)
        if array.ndim != 3:
            raise InputError(f"an image of shape {list(array.shape)} came: send (k, j, i)")
        volume = Volume.from_array(array.astype(np.uint8) if array.dtype == bool else array)
        client = self._client()
        async with client.turn:
            await self.show(client, volume)
        return JSONResponse({"status": "ok"})

    async def _segment(self, request: Request) -> Response:
        mask = (await self._drawn(request))[0]
        client = self._client()
        async with client.turn:
            if client.annotation is None:
                return _missing()
            await client.annotation.start_from(mask, self.gone(request))
        return JSONResponse({"status": "ok"})

    async def _point(self, request: Request) -> Response:
        data = await read_json(request)
        positive = flag(data, "positive_click")
        return await self._mark(request, lambda a: a.point(data.get("voxel_coord"), positive))

    async def _box(self, request: Request) -> Response:
        data = await read_json(request)
        positive = flag(data, "positive_click")
        corners = [numbers(data.get(name), 3, name) for name in ("outer_point_one", "outer_point_two")]
        # corners lie in the box, on both ends
        sides = [[min(ends), max(ends) + 1] for ends in zip(*corners, strict=True)]
        return await self._mark(request, lambda a: a.box(sides, positive))

    async def _region(self, prompts: Callable[..., Any], request: Request) -> Response:
        mask, positive = await self._drawn(request)
        return await self._mark(request, lambda a: prompts(a, mask, positive))

    async def _drawn(self, request: Request) -> tuple[NDArray[np.bool_], bool]:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            data = await run_in_threadpool(gunzip, part(form, "file"), self.limits.array + 4096)
            array = await run_in_threadpool(read_npy, data, self.limits.array)
        return array != 0, flag(form, "positive_click", True, words=True)

    async def _mark(self, request: Request, prompts: Callable[[Annotation], Any]) -> Response:
        client = self._client()
        async with client.turn:
            annotation = client.annotation
            if annotation is None:
                return _missing()
            await annotation.mark(prompts, True, self.gone(request))
            body = await run_in_threadpool(lambda: gzipped(np.packbits(annotation.mask).tobytes()))
        return Response(body, media_type="application/octet-stream", headers={"Content-Encoding": "gzip"})

    def _client(self) -> Client:
        client = self.clients.setdefault("", Client(""))
        client.acted = time.monotonic()
        return client


def _missing() -> Response:
    """What makes clients upload their image and try again."""
    return JSONResponse({"status": "error", "message": "No image uploaded"})
