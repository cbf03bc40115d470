"""The remote protocol of nnInteractive (client 2.5 and 2.6): 3D Slicer, napari, MITK and Python scripts.

A client claims a lease, sends its image, and then prompts; every answer is the part of the mask that changed. The
lease ends when the client releases it, is not heard of for a minute, or does nothing for ten.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limnet.errors import InputError
from limnet.image.volume import Volume
from limnet.prompts import Prompt
from limnet.server.protocols.annotation import Annotation, Gone, Told
from limnet.server.protocols.clients import Client, Protocol
from limnet.server.protocols.packed_array import pack_array, unpack_array
from limnet.server.protocols.requests import as_object, flag, numbers, read_body, read_json

LEASE, META = "X-Lease-Token", "X-Meta"
VERSION = "2.6.0"  # of the client's package whose protocol this is
IDLE_SECONDS, LIVENESS_SECONDS = 600.0, 60.0
_BUFFERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_THICKNESS = [2, 2, 2]  # voxels of a stroke, as people draw them in limnet's own viewer
Prompts = Callable[[Annotation, bool], Sequence[Prompt]]


@dataclass(eq=False)
class Lease(Client):
    """A client; its key is the lease token. `dtype` is that of the mask it keeps, once it has said so (`ready`)."""

    seen: float = field(default_factory=time.monotonic)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    ready: bool = False


class NNInteractive(Protocol[Lease]):
    """The protocol."""

    idle = IDLE_SECONDS

    def routes(self) -> list[Route]:
        """Its addresses."""
        told = {"/capabilities": self._capabilities, "/lease_status": self._status}
        done = {
            "/claim": self._claim,
            "/heartbeat": self._heartbeat,
            "/release": self._release,
            "/set_image": self._set_image,
            "/set_target_buffer": self._set_target_buffer,
            "/set_do_autozoom": self._set_do_autozoom,
            "/reset_interactions": self._reset,
            "/add_point_interaction": self._point,
            "/add_bbox_interaction": self._box,
            "/add_scribble_interaction": self._scribble,
            "/add_lasso_interaction": self._lasso,
            "/add_initial_seg_interaction": self._initial,
            "/predict": self._predict,
            "/undo": self._undo,
        }
        return [
            Route("/healthz", self._health),
            *(Route(path, self._keyed(handler)) for path, handler in told.items()),
            *(Route(path, self._keyed(handler), methods=["POST"]) for path, handler in done.items()),
        ]

    def _keyed(self, handler: Any) -> Any:
        """The handler behind the key."""

        async def handle(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("utf-8", "replace")
            key = self.options.key
            if key is not None and not hmac.compare_digest(given, b"Bearer " + key.encode()):
                raise HTTPException(401, "the key is missing or wrong", {"WWW-Authenticate": "Bearer"})
            found: Response = await handler(request)
            return found

        return handle

    def is_over(self, client: Lease) -> bool:
        """Whether a client is idle, or gone."""
        return super().is_over(client) or time.monotonic() - client.seen > LIVENESS_SECONDS

    # leases

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _claim(self, request: Request) -> Response:
        await self.sweep()
        self.check_room(len(self.clients))
        lease = Lease()
        self.clients[lease.key] = lease
        return JSONResponse(
            {
                "lease_token": lease.key,
                "idle_timeout_seconds": IDLE_SECONDS,
                "liveness_timeout_seconds": LIVENESS_SECONDS,
                "max_sessions": self.limits.cases,
            }
        )

    def _lease(self, request: Request, *, acts: bool = True) -> Lease:
        lease = self.clients.get(request.headers.get(LEASE, ""))
        if lease is None or super().is_over(lease):
            raise _expired()
        lease.seen = time.monotonic()
        if acts:
            lease.acted = lease.seen
        return lease

    async def _heartbeat(self, request: Request) -> Response:
        lease = self._lease(request, acts=False)
        return JSONResponse({"remaining_seconds": _remaining(lease)})

    async def _status(self, request: Request) -> Response:
        lease = self._lease(request, acts=False)
        return JSONResponse({"remaining_seconds": _remaining(lease), "idle_timeout_seconds": IDLE_SECONDS})

    async def _release(self, request: Request) -> Response:
        await self.end(request.headers.get(LEASE, ""))
        return JSONResponse({"released": True})

    async def _capabilities(self, request: Request) -> Response:
        kinds = ("bbox2d", "bbox3d", "lasso", "points", "scribble")
        channels = {kind: [2 * i + 1, 2 * i + 2] for i, kind in enumerate(kinds)}
        return JSONResponse(
            {
                "supported_interactions": dict.fromkeys(kinds, True),
                "channel_mapping": {"prev_seg": 0, **channels},
                "num_interaction_channels": 11,
                "supports_initial_label": True,
                "supports_zero_shot_label_refinement": True,
                "preferred_scribble_thickness": _THICKNESS,
                "interaction_decay": 1.0,
                "patch_size": None,
                "do_autozoom": True,
                "inference_session_version": VERSION,
                "license": f"Apache-2.0 ({self.options.model})",
                "supports_undo": True,
            }
        )

    # images

    async def _set_image(self, request: Request) -> Response:
        lease = self._lease(request)
        async with self._turn(lease):
            properties = _meta(request).get("image_properties")
            spacing = properties.get("spacing") if isinstance(properties, dict) else None
            steps = None if spacing is None else numbers(spacing, 3, "the spacing in mm")
            async with self.limits.uploads:
                body = await read_body(request, self.limits.body)
                image = await run_in_threadpool(unpack_array, body, self.limits.array)
            del body
            if image.ndim != 4 or image.shape[0] != 1:
                raise InputError(f"an image of shape {list(image.shape)} came: send (1, x, y, z), one channel")
            plain = {np.dtype(bool): np.uint8, np.dtype(np.float16): np.float32}.get(image.dtype)
            volume = Volume.from_array(image[0] if plain is None else image[0].astype(plain), steps)
            lease.ready = False
            if not await self.show(lease, volume):
                raise _expired()
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
                await annotation.reset(self.gone(request))
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
        data = _meta(request)
        _image(self._lease(request))
        mask, box = await self._mask(request), data.get("interaction_bbox")
        return await self._mark(request, data, lambda a, positive: prompts(a, _placed(mask, box, a.shape), positive))

    async def _mark(self, request: Request, data: dict[str, Any], prompts: Prompts) -> Response:
        lease = self._lease(request)
        positive, run = flag(data, "include_interaction"), flag(data, "run_prediction", True)
        async with self._turn(lease):
            try:
                told = await _ready(lease).mark(lambda a: prompts(a, positive), run, self.gone(request))
            finally:
                lease.acted = lease.seen = time.monotonic()
            return await _answer(told, lease.dtype)

    async def _initial(self, request: Request) -> Response:
        data, lease = _meta(request), self._lease(request)
        flag(data, "run_prediction", False)
        _ready(lease)
        mask = await self._mask(request)
        async with self._turn(lease):
            await _ready(lease).start_from(mask, self.gone(request))
        return await _answer((False, None), lease.dtype)

    async def _predict(self, request: Request) -> Response:
        return await self._step(request, Annotation.predict)

    async def _undo(self, request: Request) -> Response:
        return await self._step(request, Annotation.undo)

    async def _step(self, request: Request, step: Callable[[Annotation, Gone], Awaitable[Told]]) -> Response:
        lease = self._lease(request)
        await read_json(request)
        async with self._turn(lease):
            return await _answer(await step(_ready(lease), self.gone(request)), lease.dtype)

    async def _reset(self, request: Request) -> Response:
        lease = self._lease(request)
        await read_json(request)
        async with self._turn(lease):
            await _image(lease).reset(self.gone(request))
        return JSONResponse({})

    # parts

    @contextlib.asynccontextmanager
    async def _turn(self, lease: Lease) -> AsyncIterator[None]:
        async with lease.turn:
            if lease.key not in self.clients:
                raise _expired()
            yield

    async def _mask(self, request: Request) -> NDArray[np.bool_]:
        async with self.limits.uploads:
            body = await read_body(request, self.limits.body)
            array = await run_in_threadpool(unpack_array, body, self.limits.array)
        return np.asarray(array != 0)


def _expired() -> HTTPException:
    return HTTPException(410, "lease expired or unknown")


def _remaining(lease: Lease) -> float:
    return max(0.0, IDLE_SECONDS - (time.monotonic() - lease.acted))


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


def _placed(mask: NDArray[np.bool_], box: Any, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """A mask of the whole image from one of a box; parts outside of the image are cut off."""
    if box is None:
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
        and all(type(v) is int and abs(v) < 1 << 31 for v in side)
        and side[0] < side[1]
    )


async def _answer(told: Told, dtype: np.dtype[Any]) -> Response:
    ran, change = told
    meta: dict[str, Any] = {"ran_prediction": ran, "bbox": None}
    body = b""
    if change is not None:
        box, mask = change
        meta |= {"bbox": [list(side) for side in box], "dtype": dtype.name, "shape": list(mask.shape)}
        body = await run_in_threadpool(lambda: pack_array(mask.astype(dtype)))
    return Response(body, media_type="application/octet-stream", headers={META: json.dumps(meta)})
