"""The protocol of the nnInteractive extension for 3D Slicer before version 1.0: one image, no sessions, no key.

Whoever uploads an image replaces the one before; masks are answered whole, one bit per voxel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.server.protocols.annotation import Annotation
from limnet.server.protocols.requests import (
    Handler,
    Limits,
    check_room,
    flag,
    gunzip,
    gzipped,
    hung_up,
    part,
    read_form,
    read_json,
    read_npy,
)
from limnet.server.workspace import Workspace

_IDLE_SECONDS = 3600.0  # after which the image is let go of
_TRUE = (b"true", b"1", b"yes", b"on")


class SlicerLegacy:
    """The protocol on a workspace.

    Args:
        workspace: Where rounds are computed.
        limits: How much clients may ask for.
        clock: Seconds; for tests.
    """

    def __init__(self, workspace: Workspace, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.workspace, self.limits, self.clock = workspace, limits, clock
        self.annotation: Annotation | None = None
        self.acted = clock()
        self._turn = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Its own addresses."""
        return [
            Route("/", self._there),
            Route("/upload_image", self._image, methods=["POST"]),
            Route("/upload_segment", self._segment, methods=["POST"]),
        ]

    def shared(self) -> dict[str, Handler]:
        """Handlers of addresses that newer clients use with a lease token."""
        return {
            "/add_point_interaction": self._point,
            "/add_bbox_interaction": self._box,
            "/add_scribble_interaction": self._scribble,
            "/add_lasso_interaction": self._lasso,
        }

    async def sweep(self) -> None:
        """Let go of an image that nobody works on."""
        if self.annotation is not None and self.clock() - self.acted > _IDLE_SECONDS:
            await self.close()

    async def close(self) -> None:
        """Let go of the image."""
        annotation, self.annotation = self.annotation, None
        if annotation is not None:
            await run_in_threadpool(annotation.close)

    async def _there(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _image(self, request: Request) -> Response:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            array = await run_in_threadpool(read_npy, part(form, "file"), self.limits.array)
        if array.ndim != 3:
            raise InputError(f"an image of shape {list(array.shape)} came: send (k, j, i)")
        volume = Volume.from_array(array.astype(np.uint8) if array.dtype == bool else array)
        async with self._turn:
            await self.close()
            check_room(len(self.workspace.cases), self.limits)
            self.annotation = await run_in_threadpool(Annotation, self.workspace, volume)
            self.acted = self.clock()
        return JSONResponse({"status": "ok"})

    async def _segment(self, request: Request) -> Response:
        mask = (await self._drawn(request))[0]
        async with self._turn:
            annotation = self._present()
            if annotation is None:
                return _missing()
            _fits(mask, annotation)
            await annotation.start_from(mask, hung_up(request, self.limits.seconds))
        return JSONResponse({"status": "ok"})

    async def _point(self, request: Request) -> Response:
        data = await read_json(request)
        positive = flag(data, "positive_click")
        return await self._mark(request, lambda a: a.point(data.get("voxel_coord"), positive))

    async def _box(self, request: Request) -> Response:
        data = await read_json(request)
        positive = flag(data, "positive_click")
        corners = [data.get("outer_point_one"), data.get("outer_point_two")]
        if not all(isinstance(c, list) and len(c) == 3 for c in corners):
            raise InputError("outer_point_one and outer_point_two are three numbers each")
        one, two = corners
        return await self._mark(
            request, lambda a: a.box([_side(a_, b_) for a_, b_ in zip(one or [], two or [], strict=True)], positive)
        )

    async def _scribble(self, request: Request) -> Response:
        mask, positive = await self._drawn(request)
        return await self._mark(request, lambda a: a.scribble(_fits(mask, a), positive))

    async def _lasso(self, request: Request) -> Response:
        mask, positive = await self._drawn(request)
        return await self._mark(request, lambda a: a.lasso(_fits(mask, a), positive))

    async def _drawn(self, request: Request) -> tuple[NDArray[np.bool_], bool]:
        async with self.limits.uploads:
            form = await read_form(request, self.limits)
            data = await run_in_threadpool(gunzip, part(form, "file"), self.limits.array + 4096)
            array = await run_in_threadpool(read_npy, data, self.limits.array)
        positive = part(form, "positive_click") if "positive_click" in form else b"true"
        return array != 0, positive.strip().lower() in _TRUE

    async def _mark(self, request: Request, prompts: Callable[[Annotation], Any]) -> Response:
        async with self._turn:
            annotation = self._present()
            if annotation is None:
                return _missing()
            made = await run_in_threadpool(prompts, annotation)
            await annotation.mark(made, True, hung_up(request, self.limits.seconds))
            body = await run_in_threadpool(lambda: gzipped(np.packbits(annotation.mask).tobytes()))
        return Response(body, media_type="application/octet-stream", headers={"Content-Encoding": "gzip"})

    def _present(self) -> Annotation | None:
        self.acted = self.clock()
        return self.annotation


def _missing() -> Response:
    """What makes clients upload their image and try again."""
    return JSONResponse({"status": "error", "message": "No image uploaded"})


def _fits(mask: NDArray[np.bool_], annotation: Annotation) -> NDArray[np.bool_]:
    if mask.shape != annotation.shape:
        raise InputError(f"the mask has shape {list(mask.shape)}, the image {list(annotation.shape)}")
    return mask


def _side(one: Any, two: Any) -> list[Any]:
    """Corners lie in the box, on both ends."""
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in (one, two)):
        raise InputError("corners of boxes are numbers")
    return [min(one, two), max(one, two) + 1]
