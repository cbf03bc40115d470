"""The remote protocol of nnInteractive (client 2.5 and 2.6): 3D Slicer, napari, MITK and Python scripts.

A client claims a lease, sends its image, and then prompts; every answer is the part of the mask that changed. The
lease ends when the client releases it, is not heard of for a minute, or does nothing for ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limnet.errors import Cancelled, InputError
from limnet.image.volume import Volume
from limnet.server.protocols.annotation import Annotation, Change
from limnet.server.protocols.packed_array import pack_array, unpack_array
from limnet.server.protocols.requests import (
    Handler,
    Limits,
    as_object,
    flag,
    hung_up,
    read_body,
    read_json,
)
from limnet.server.workspace import Workspace

LEASE, META = "X-Lease-Token", "X-Meta"
VERSION = "2.6.0"  # of the client's package whose protocol this is
IDLE_SECONDS, LIVENESS_SECONDS, SWEEP_SECONDS = 600.0, 60.0, 15.0
_BUFFERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_THICKNESS = [2, 2, 2]  # voxels of a stroke, as people draw them in limnet's own viewer


@dataclass(eq=False)
class Lease:
    """A client.

    Attributes:
        token: What it calls itself by.
        acted: When it last did something.
        seen: When it was last heard of.
        annotation: Its image and object, once it has sent one.
        dtype: Type of the mask it keeps.
        ready: Whether it has said what mask it keeps.
        turn: One request at a time.
    """

    token: str
    acted: float
    seen: float
    annotation: Annotation | None = None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    ready: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class NNInteractive:
    """The protocol on a workspace.

    Args:
        workspace: Where rounds are computed.
        limits: How much clients may ask for.
        model: What clients show as the model's licence line.
        key: What clients have to know, None for nothing.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits,
        model: str,
        key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workspace, self.limits, self.model, self.key, self.clock = workspace, limits, model, key, clock
        self.leases: dict[str, Lease] = {}

    def routes(self) -> list[Route]:
        """Its addresses. Those that legacy clients use as well come with a lease token in a header."""
        told = {"/capabilities": self._capabilities, "/lease_status": self._status}
        done = {
            "/claim": self._claim,
            "/heartbeat": self._heartbeat,
            "/release": self._release,
            "/set_image": self._set_image,
            "/set_target_buffer": self._set_target_buffer,
            "/set_do_autozoom": self._set_do_autozoom,
            "/reset_interactions": self._reset,
            "/add_initial_seg_interaction": self._initial,
            "/predict": self._predict,
            "/undo": self._undo,
        }
        return [
            Route("/healthz", self._health),
            *(Route(path, self._keyed(handler)) for path, handler in told.items()),
            *(Route(path, self._keyed(handler), methods=["POST"]) for path, handler in done.items()),
        ]

    def shared(self) -> dict[str, Handler]:
        """Handlers of the addresses that legacy clients use as well."""
        handlers = {
            "/add_point_interaction": self._point,
            "/add_bbox_interaction": self._box,
            "/add_scribble_interaction": self._scribble,
            "/add_lasso_interaction": self._lasso,
        }
        return {path: self._keyed(handler) for path, handler in handlers.items()}

    def _keyed(self, handler: Handler) -> Handler:
        """The handler behind the key."""

        async def handle(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("utf-8", "replace")
            if self.key is not None and not hmac.compare_digest(given, b"Bearer " + self.key.encode()):
                raise HTTPException(401, "the key is missing or wrong", {"WWW-Authenticate": "Bearer"})
            return await handler(request)

        return handle

    async def sweep(self) -> None:
        """End the leases of clients that are gone or idle."""
        now = self.clock()
        for lease in list(self.leases.values()):
            if now - lease.acted > IDLE_SECONDS or now - lease.seen > LIVENESS_SECONDS:
                await self._end(lease)

    async def close(self) -> None:
        """End all leases."""
        for lease in list(self.leases.values()):
            await self._end(lease)

    async def _end(self, lease: Lease) -> None:
        self.leases.pop(lease.token, None)
        annotation, lease.annotation = lease.annotation, None
        if annotation is not None:
            await run_in_threadpool(annotation.close)

    # leases

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _claim(self, request: Request) -> Response:
        await self.sweep()
        if len(self.leases) >= self.limits.cases:
            detail = f"server is at capacity ({self.limits.cases} sessions)"
            raise HTTPException(503, detail, {"Retry-After": "10"})
        now = self.clock()
        lease = Lease(secrets.token_hex(16), now, now)
        self.leases[lease.token] = lease
        return JSONResponse(
            {
                "lease_token": lease.token,
                "idle_timeout_seconds": IDLE_SECONDS,
                "liveness_timeout_seconds": LIVENESS_SECONDS,
                "max_sessions": self.limits.cases,
            }
        )

    def _lease(self, request: Request, *, acts: bool = True) -> Lease:
        lease = self.leases.get(request.headers.get(LEASE, ""))
        now = self.clock()
        if lease is None or now - lease.acted > IDLE_SECONDS:
            raise HTTPException(410, "lease expired or unknown")
        lease.seen = now
        if acts:
            lease.acted = now
        return lease

    def _remaining(self, lease: Lease) -> float:
        return max(0.0, IDLE_SECONDS - (self.clock() - lease.acted))

    async def _heartbeat(self, request: Request) -> Response:
        return JSONResponse({"remaining_seconds": self._remaining(self._lease(request, acts=False))})

    async def _status(self, request: Request) -> Response:
        lease = self._lease(request, acts=False)
        return JSONResponse({"remaining_seconds": self._remaining(lease), "idle_timeout_seconds": IDLE_SECONDS})

    async def _release(self, request: Request) -> Response:
        lease = self.leases.get(request.headers.get(LEASE, ""))
        if lease is not None:
            await self._end(lease)
        return JSONResponse({"released": True})

    async def _capabilities(self, request: Request) -> Response:
        pair = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
        return JSONResponse(
            {
                "supported_interactions": {
                    "points": True,
                    "bbox2d": True,
                    "bbox3d": True,
                    "scribble": True,
                    "lasso": True,
                },
                "channel_mapping": {
                    "prev_seg": 0,
                    **dict(zip(("bbox2d", "bbox3d", "lasso", "points", "scribble"), pair, strict=True)),
                },
                "num_interaction_channels": 11,
                "supports_initial_label": True,
                "supports_zero_shot_label_refinement": True,
                "preferred_scribble_thickness": _THICKNESS,
                "interaction_decay": 1.0,
                "patch_size": None,
                "do_autozoom": True,
                "inference_session_version": VERSION,
                "license": f"Apache-2.0 ({self.model})",
                "supports_undo": True,
            }
        )

    # images

    async def _set_image(self, request: Request) -> Response:
        lease = self._lease(request)
        async with self._turn(lease):
            spacing = _spacing(_meta(request).get("image_properties"))
            async with self.limits.uploads:
                body = await read_body(request, self.limits.body)
                image = await run_in_threadpool(unpack_array, body, self.limits.array)
            del body
            if image.ndim != 4 or image.shape[0] != 1:
                raise InputError(f"an image of shape {list(image.shape)} came: send (1, x, y, z), one channel")
            plain = {np.dtype(bool): np.uint8, np.dtype(np.float16): np.float32}.get(image.dtype)
            volume = Volume.from_array(image[0] if plain is None else image[0].astype(plain), spacing)
            previous, lease.annotation, lease.ready = lease.annotation, None, False
            if previous is not None:
                await run_in_threadpool(previous.close)
            annotation = await run_in_threadpool(Annotation, self.workspace, volume)
            if lease.token not in self.leases:  # released meanwhile
                await run_in_threadpool(annotation.close)
                raise HTTPException(410, "lease expired or unknown")
            lease.annotation = annotation
            return JSONResponse({"original_image_shape": list(image.shape)})

    async def _set_target_buffer(self, request: Request) -> Response:
        lease = self._lease(request)
        data = await read_json(request)
        async with self._turn(lease):
            annotation = _image(lease)
            shape, name = data.get("shape"), data.get("dtype")
            if shape != list(annotation.shape):
                raise InputError(f"the target buffer has shape {str(shape)[:60]}, the image {list(annotation.shape)}")
            if name not in _BUFFERS:
                raise InputError(f"the target buffer is of {str(name)[:20]!r}: integers and booleans are taken")
            lease.dtype, lease.ready = np.dtype(name), True
            if annotation.case.rounds:
                await annotation.reset(hung_up(request, self.limits.seconds))
        return JSONResponse({})

    async def _set_do_autozoom(self, request: Request) -> Response:
        self._lease(request)
        flag(await read_json(request), "do_autozoom")  # rounds choose their scale themselves
        return JSONResponse({})

    # prompts

    async def _point(self, request: Request) -> Response:
        data = await read_json(request)
        return await self._mark(request, data, lambda a, positive: a.point(data.get("coordinates"), positive))

    async def _box(self, request: Request) -> Response:
        data = await read_json(request)
        return await self._mark(request, data, lambda a, positive: a.box(data.get("bbox_coords"), positive))

    async def _scribble(self, request: Request) -> Response:
        return await self._drawn(request, Annotation.scribble)

    async def _lasso(self, request: Request) -> Response:
        return await self._drawn(request, Annotation.lasso)

    async def _drawn(self, request: Request, prompts: Any) -> Response:
        data, lease = _meta(request), self._lease(request)
        annotation = _image(lease)
        mask = await self._mask(request)
        box = data.get("interaction_bbox")
        return await self._mark(
            request, data, lambda a, positive: prompts(a, _placed(mask, box, annotation.shape), positive)
        )

    async def _mark(self, request: Request, data: dict[str, Any], prompts: Any) -> Response:
        lease = self._lease(request)
        positive, run = flag(data, "include_interaction"), flag(data, "run_prediction", True)
        async with self._turn(lease):
            annotation = _ready(lease)
            made = await run_in_threadpool(prompts, annotation, positive)
            try:
                change = await annotation.mark(made, run, hung_up(request, self.limits.seconds))
            except Cancelled as error:
                raise self._gave_up() from error
            finally:
                lease.acted = lease.seen = self.clock()
            return await _answer(run and bool(made), change, lease.dtype)

    async def _initial(self, request: Request) -> Response:
        data, lease = _meta(request), self._lease(request)
        flag(data, "run_prediction", False)
        annotation = _ready(lease)
        mask = await self._mask(request)
        if mask.shape != annotation.shape:
            raise InputError(f"the mask has shape {list(mask.shape)}, the image {list(annotation.shape)}")
        async with self._turn(lease):
            await annotation.start_from(mask, hung_up(request, self.limits.seconds))
        return await _answer(False, None, lease.dtype)

    async def _predict(self, request: Request) -> Response:
        lease = self._lease(request)
        await read_json(request)
        async with self._turn(lease):
            try:
                ran, change = await _ready(lease).predict(hung_up(request, self.limits.seconds))
            except Cancelled as error:
                raise self._gave_up() from error
            return await _answer(ran, change, lease.dtype)

    async def _undo(self, request: Request) -> Response:
        lease = self._lease(request)
        await read_json(request)
        async with self._turn(lease):
            ran, change = await _ready(lease).undo(hung_up(request, self.limits.seconds))
            return await _answer(ran, change, lease.dtype)

    async def _reset(self, request: Request) -> Response:
        lease = self._lease(request)
        await read_json(request)
        async with self._turn(lease):
            await _image(lease).reset(hung_up(request, self.limits.seconds))
        return JSONResponse({})

    # parts

    @contextlib.asynccontextmanager
    async def _turn(self, lease: Lease) -> Any:
        async with lease.turn:
            if lease.token not in self.leases:
                raise HTTPException(410, "lease expired or unknown")
            yield

    def _gave_up(self) -> HTTPException:
        return HTTPException(
            400, f"the round took longer than {self.limits.seconds:.0f} s and was cancelled: nothing was changed"
        )

    async def _mask(self, request: Request) -> NDArray[np.bool_]:
        async with self.limits.uploads:
            body = await read_body(request, self.limits.body)
            array = await run_in_threadpool(unpack_array, body, self.limits.array)
        return np.asarray(array != 0)


def _meta(request: Request) -> dict[str, Any]:
    return as_object(request.headers.get(META, ""), f"the header {META}")


def _image(lease: Lease) -> Annotation:
    if lease.annotation is None:
        raise InputError("there is no image: call set_image first")
    return lease.annotation


def _ready(lease: Lease) -> Annotation:
    annotation = _image(lease)
    if not lease.ready:
        raise InputError("there is no target buffer: call set_target_buffer first")
    return annotation


def _spacing(properties: Any) -> list[float] | None:
    spacing = properties.get("spacing") if isinstance(properties, dict) else None
    if spacing is None:
        return None
    if not isinstance(spacing, list) or len(spacing) != 3 or any(isinstance(s, bool) for s in spacing):
        raise InputError(f"the spacing is three numbers in mm, got {str(spacing)[:60]}")
    try:
        return [float(s) for s in spacing]
    except (TypeError, ValueError) as error:
        raise InputError(f"the spacing is three numbers in mm, got {str(spacing)[:60]}") from error


def _placed(mask: NDArray[np.bool_], box: Any, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """A mask of the whole image from one of a box; parts outside of the image are cut off."""
    if box is None:
        if mask.shape != shape:
            raise InputError(f"the mask has shape {list(mask.shape)}, the image {list(shape)}")
        return mask
    if not isinstance(box, list) or len(box) != 3 or not all(_is_side(side) for side in box):
        raise InputError("interaction_bbox has a first and an end index for each of three axes")
    if mask.shape != tuple(end - first for first, end in box):
        raise InputError(f"the mask has shape {list(mask.shape)}, its box is {box}")
    if any(end <= 0 or first >= size for (first, end), size in zip(box, shape, strict=True)):
        raise InputError(f"the box {box} is outside of the image of shape {list(shape)}")
    whole = np.zeros(shape, dtype=bool)
    inside = tuple(slice(max(a, 0), min(b, n)) for (a, b), n in zip(box, shape, strict=True))
    part = tuple(slice(s.start - a, s.stop - a) for s, (a, _) in zip(inside, box, strict=True))
    whole[inside] = mask[part]
    return whole


def _is_side(side: Any) -> bool:
    return (
        isinstance(side, list)
        and len(side) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) and abs(v) < 1 << 31 for v in side)
        and side[0] < side[1]
    )


async def _answer(ran: bool, change: Change | None, dtype: np.dtype[Any]) -> Response:
    if change is None:
        meta: dict[str, Any] = {"ran_prediction": ran, "bbox": None}
        body = b""
    else:
        box, mask = change
        meta = {
            "ran_prediction": ran,
            "bbox": [list(side) for side in box],
            "dtype": dtype.name,
            "shape": list(mask.shape),
        }
        body = await run_in_threadpool(lambda: pack_array(mask.astype(dtype)))
    return Response(body, media_type="application/octet-stream", headers={META: json.dumps(meta)})
