"""The remote protocol of nnInteractive (client 2.5 and 2.6): 3D Slicer, napari, MITK and Python scripts.

A client claims a lease, sends its image, and then prompts; every answer is the part of the mask that changed. The
lease ends when the client releases it, is not heard of for a minute, or does nothing for ten.

Arrays travel packed (little-endian): b"NNIA", u8 version (1), u8 codec (1 zstd, 2 lz4), u8 number of axes, u8 length
of the dtype name, the name, i64 per axis, u32 number of chunks; per chunk u64 raw length, u64 packed length, a blosc2
chunk.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import blosc2
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
from limnet.server.protocols.requests import TooLargeError, as_object, flag, numbers, read_body, read_json

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
            "/add_scribble_interaction": partial(self._drawn, Annotation.scribble),
            "/add_lasso_interaction": partial(self._drawn, Annotation.lasso),
            "/add_initial_seg_interaction": self._initial,
            "/predict": partial(self._step, Annotation.predict),
            "/undo": partial(self._step, Annotation.undo),
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

    async def _drawn(self, prompts: Callable[..., Sequence[Prompt]], request: Request) -> Response:
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

    async def _step(self, step: Callable[[Annotation, Gone], Awaitable[Told]], request: Request) -> Response:
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


_MAGIC, _VERSION = b"NNIA", 1
_CHUNK = 1 << 30  # bytes: a blosc2 chunk holds less than 2 GiB
_MOST_AXES = 4
_DTYPES = frozenset((*_BUFFERS, "float16", "float32", "float64"))  # what images and masks are made of


def pack_array(array: NDArray[Any]) -> bytes:
    """The array as bytes."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    name = array.dtype.name.encode("ascii")
    head = struct.pack(
        f"<4sBBBB{len(name)}s{array.ndim}q", _MAGIC, _VERSION, 1, array.ndim, len(name), name, *array.shape
    )
    raw = memoryview(array).cast("B") if array.size else memoryview(b"")  # type: ignore[arg-type]
    chunks = [raw[start : start + _CHUNK] for start in range(0, len(raw), _CHUNK)]
    parts = [head, struct.pack("<I", len(chunks))]
    for chunk in chunks:
        packed = blosc2.compress2(
            chunk,
            typesize=array.dtype.itemsize,  # with another one, chunks of zeros cannot be read back
            codec=blosc2.Codec.ZSTD,
            clevel=1,
            filters=[blosc2.Filter.NOFILTER],
        )
        parts += [struct.pack("<QQ", len(chunk), len(packed)), packed]
    return b"".join(parts)


def unpack_array(body: bytes, limit: int) -> NDArray[Any]:
    """The array of some bytes that a stranger sent; InputError if they are none.

    TooLargeError if the header says more than `limit` bytes, before anything is allocated.
    """
    try:
        return _unpacked(memoryview(body), limit)
    except InputError:
        raise
    except (struct.error, ValueError, TypeError, RuntimeError, IndexError, OverflowError) as error:
        raise InputError(f"the body is no packed array ({error})") from error


def _unpacked(body: memoryview, limit: int) -> NDArray[Any]:
    magic, version, codec, axes, length = struct.unpack_from("<4sBBBB", body, 0)
    if magic != _MAGIC or version != _VERSION or codec not in (1, 2) or axes > _MOST_AXES:
        raise InputError("the body is no packed array of version 1")
    name = bytes(body[8 : 8 + length]).decode("ascii")
    if name not in _DTYPES:
        raise InputError(f"arrays of type {name[:20]!r} are not taken: send integers or floats")
    shape = struct.unpack_from(f"<{axes}q", body, 8 + length)
    if any(n < 0 for n in shape):
        raise InputError(f"the shape {shape} has negative numbers")
    dtype = np.dtype(name)
    total = math.prod(shape) * dtype.itemsize
    if total > limit:
        raise TooLargeError(f"an array of {total} bytes is too large: at most {limit} are taken")
    at = 8 + length + 8 * axes
    (count,) = struct.unpack_from("<I", body, at)
    at += 4
    chunks: list[tuple[int, memoryview]] = []
    for _ in range(count):
        raw, packed = struct.unpack_from("<QQ", body, at)
        at += 16
        chunk = body[at : at + packed]
        if len(chunk) != packed or not raw or raw % dtype.itemsize:
            raise InputError("a chunk is cut off")
        held, stored, _ = blosc2.get_cbuffer_sizes(chunk)
        if held != raw or stored != packed:
            raise InputError("a chunk says another length than its header")
        chunks.append((raw, chunk))
        at += packed
    if sum(raw for raw, _ in chunks) != total or at != len(body):
        raise InputError("the chunks do not add up to the shape")
    flat = np.empty(total // dtype.itemsize, dtype=dtype)
    start = 0
    for raw, chunk in chunks:
        end = start + raw // dtype.itemsize
        blosc2.decompress2(chunk, dst=flat[start:end])
        start = end
    return flat.reshape(shape)
