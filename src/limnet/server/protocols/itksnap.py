"""The protocol of ITK-SNAP's deep-learning tools (its "DLS" servers): sessions by number, whole masks, no key."""

from __future__ import annotations

import asyncio
import base64
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
    Limits,
    TooLargeError,
    UnknownError,
    as_object,
    check_room,
    gunzip,
    gzipped,
    hung_up,
    part,
    read_form,
)
from limnet.server.workspace import Workspace

_VERSION = "0.1.6"  # of the server whose protocol this is: ITK-SNAP compares the numbers
_MODEL = "limnet"
_IDLE_SECONDS = 3600.0


@dataclass(eq=False)
class _Session:
    """A client: its image once it has sent one, and when it last did something."""

    acted: float
    annotation: Annotation | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ItkSnap:
    """The protocol on a workspace.

    Args:
        workspace: Where rounds are computed.
        limits: How much clients may ask for.
        clock: Seconds; for tests.
    """

    def __init__(self, workspace: Workspace, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.workspace, self.limits, self.clock = workspace, limits, clock
        self.sessions: dict[str, _Session] = {}

    def routes(self) -> list[Route]:
        """Its addresses; those of version 2 are understood with and without their prefix."""
        found = [
            Route("/status", self._status),
            Route("/v2/models", self._models),
            Route("/start_session", self._start),
        ]
        for prefix in ("", "/v2"):
            found += [
                Route(f"{prefix}/start_session/{{model}}", self._start),
                Route(f"{prefix}/end_session/{{session}}", self._end),
                Route(f"{prefix}/upload_raw/{{session}}", self._upload, methods=["POST"]),
                Route(f"{prefix}/process_point_interaction/{{session}}", self._point),
                Route(f"{prefix}/process_scribble_interaction/{{session}}", self._scribble, methods=["POST"]),
                Route(f"{prefix}/process_lasso_interaction/{{session}}", self._lasso, methods=["POST"]),
                # nnInteractive clients have a POST of nearly the same name, without a session
                Route(f"{prefix}/reset_interactions/{{session}}", self._reset),
            ]
        return found

    async def sweep(self) -> None:
        """End sessions that nobody works in."""
        for key, session in list(self.sessions.items()):
            if self.clock() - session.acted > _IDLE_SECONDS:
                await self._close(key)

    async def close(self) -> None:
        """End all sessions."""
        for key in list(self.sessions):
            await self._close(key)

    async def _close(self, key: str) -> None:
        session = self.sessions.pop(key, None)
        if session is not None and session.annotation is not None:
            await run_in_threadpool(session.annotation.close)

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
        check_room(max(len(self.workspace.cases), len(self.sessions)), self.limits)
        key = secrets.token_hex(16)
        self.sessions[key] = _Session(self.clock())
        return JSONResponse({"session_id": key})

    async def _end(self, request: Request) -> Response:
        await self._close(request.path_params["session"])
        return JSONResponse({"status": "session ended"})

    async def _upload(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return _invalid()
        async with self.limits.uploads:
            values, about = await self._image(request)
        spacing = about.get("spacing")
        steps = None if spacing is None else _numbers(spacing, "spacing")[::-1]
        volume = Volume.from_array(values, steps)
        async with session.turn:
            previous, session.annotation = session.annotation, None
            if previous is not None:
                await run_in_threadpool(previous.close)
            check_room(len(self.workspace.cases), self.limits)
            annotation = await run_in_threadpool(Annotation, self.workspace, volume)
            if request.path_params["session"] not in self.sessions:  # ended meanwhile
                await run_in_threadpool(annotation.close)
                return _invalid()
            session.annotation = annotation
        return JSONResponse({"status": "success"})

    async def _point(self, request: Request) -> Response:
        query = request.query_params
        values = query.getlist("point") or [query[name] for name in "xyz" if name in query]
        point = _numbers(values, "point")[::-1]
        return await self._mark(request, lambda a, positive: a.point(point, positive))

    async def _scribble(self, request: Request) -> Response:
        return await self._drawn(request, Annotation.scribble)

    async def _lasso(self, request: Request) -> Response:
        return await self._drawn(request, Annotation.lasso)

    async def _drawn(self, request: Request, prompts: Callable[..., Any]) -> Response:
        if self._session(request) is None:
            return _invalid()
        async with self.limits.uploads:
            values, _ = await self._image(request)
        mask = values != 0

        def made(annotation: Annotation, positive: bool) -> Any:
            if mask.shape != annotation.shape:
                raise InputError(f"the mask has shape {mask.shape[::-1]}, the image {annotation.shape[::-1]}")
            return prompts(annotation, mask, positive)

        return await self._mark(request, made)

    async def _mark(self, request: Request, prompts: Callable[[Annotation, bool], Any]) -> Response:
        session = self._session(request)
        if session is None:
            return _invalid()
        positive = request.query_params.get("foreground", "true").lower()
        if positive not in ("true", "false", "1", "0"):
            raise InputError(f"foreground is true or false, got {positive[:20]!r}")
        async with session.turn:
            annotation = session.annotation
            if annotation is None:
                raise InputError("there is no image: upload one first")
            made = await run_in_threadpool(prompts, annotation, positive in ("true", "1"))
            await annotation.mark(made, True, hung_up(request, self.limits.seconds))
            session.acted = self.clock()
            text = await run_in_threadpool(_result, annotation)
        return JSONResponse({"status": "success", "result": text})

    async def _reset(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return _invalid()
        async with session.turn:
            if session.annotation is not None:
                await session.annotation.reset(hung_up(request, self.limits.seconds))
        return JSONResponse({"status": "success"})

    def _session(self, request: Request) -> _Session | None:
        session = self.sessions.get(request.path_params["session"])
        if session is not None:
            session.acted = self.clock()
        return session

    async def _image(self, request: Request) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """(z, y, x) float32 values of an upload, and its description."""
        form = await read_form(request, self.limits)
        about = as_object(part(form, "metadata"), "metadata")
        size = about.get("dimensions")
        if not isinstance(size, list) or len(size) != 3 or not all(_is_count(n) for n in size):
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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _numbers(values: Any, what: str) -> list[float]:
    try:
        found = [float(v) for v in values]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is three numbers, got {str(values)[:60]}") from error
    if len(found) != 3 or not all(math.isfinite(v) for v in found):
        raise InputError(f"{what} is three numbers, got {str(values)[:60]}")
    return found
