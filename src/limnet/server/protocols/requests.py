"""Reading requests of strangers: bounded bodies, JSON of the right shape, and refusals every protocol shares."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import math
import zlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from limnet.errors import InputError
from limnet.image.io.numpy_files import read_header

_SMALL = 1 << 20  # bytes of a body or header that holds no image
_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_SILENT = 60.0  # seconds without a byte after which an upload is given up


class TooLargeError(InputError):
    """A body that is, or says it is, larger than allowed."""

    status = 413


class UnknownError(InputError):
    """A session, image or model that is not there."""

    status = 404


@dataclass
class Limits:
    """How much a request may ask for.

    Attributes:
        body: Most bytes of a body as sent.
        array: Most bytes of an image or mask after decompression.
        cases: Images held at once, over all protocols.
        seconds: Longest time a round may take before it is cancelled: the programs give up after a minute.
    """

    body: int = 1 << 31
    array: int = 1 << 32
    cases: int = 8
    seconds: float = 55.0
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))  # bodies in memory at once


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request; TooLargeError if it is, or says it is, larger than `limit` bytes."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise TooLargeError(f"the body is too large: at most {limit} bytes are taken")
    body = bytearray()
    stream = request.stream()
    try:
        while True:
            try:
                chunk = await asyncio.wait_for(anext(stream), _SILENT)
            except StopAsyncIteration:
                return bytes(body)
            if len(body) + len(chunk) > limit:
                raise TooLargeError(f"the body is too large: at most {limit} bytes are taken")
            body += chunk
    except (ClientDisconnect, asyncio.TimeoutError) as error:
        raise InputError("the upload was broken off") from error


async def read_json(request: Request) -> dict[str, Any]:
    """A body of at most a megabyte as a JSON object; an empty body is an empty object."""
    return as_object(await read_body(request, _SMALL) or b"{}", "the body")


def as_object(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object from text; InputError for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is no JSON") from error
    if not isinstance(value, dict):
        raise InputError(f"{what} is no JSON object")
    return value


class _InMemory(MultiPartParser):
    """Keeps uploads in memory: what is a patient's does not touch the disk unless it is meant to."""

    spool_max_size = 1 << 40


@dataclass(frozen=True)
class Upload:
    """A file of a form: its bytes, and what the client calls it, which is good for nothing but its suffix."""

    data: bytes
    name: str


async def read_form(request: Request, limits: Limits) -> dict[str, str | Upload]:
    """The fields and files of a multipart body; InputError for any other."""
    body = await read_body(request, limits.body)

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InputError("the body is no multipart form: send it as multipart/form-data")
    try:
        form: FormData = await _InMemory(
            request.headers, stream(), max_files=8, max_fields=32, max_part_size=_SMALL
        ).parse()
    except (MultiPartException, ValueError, KeyError, UnicodeError, AssertionError) as error:
        raise InputError(f"the body is no multipart form ({error})") from error
    found: dict[str, str | Upload] = {}
    for name, value in form.multi_items():
        found[name] = value if isinstance(value, str) else Upload(await value.read(), value.filename or "")
    return found


def part(form: dict[str, str | Upload], name: str) -> bytes:
    """The bytes of a part of a form; InputError if it is missing."""
    value = form.get(name)
    if value is None:
        raise InputError(f"the form has no part {name!r}")
    return value.encode() if isinstance(value, str) else value.data


def file_of(form: dict[str, str | Upload], name: str) -> Upload:
    """A file of a form; InputError if it is missing."""
    value = form.get(name)
    if not isinstance(value, Upload):
        raise InputError(f"the form has no file {name!r}")
    return value


def flag(data: Mapping[str, Any], name: str, usual: bool | None = None, words: bool = False) -> bool:
    """A true or false entry, with `words` one written out; InputError for anything else."""
    value = data.get(name, usual)
    if words and isinstance(value, str):
        value = _WORDS.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise InputError(f"{name} is true or false, got {str(value)[:40]!r}")
    return value


def numbers(values: Any, count: int, what: str) -> list[float]:
    """So many finite numbers; InputError for anything else."""
    if isinstance(values, (list, tuple)) and len(values) == count:
        with contextlib.suppress(OverflowError):
            found = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
            if len(found) == count and all(math.isfinite(v) for v in found):
                return found
    raise InputError(f"{what} is {count} numbers, got {str(values)[:60]}")


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompressed bytes; TooLargeError for more than `limit` of them, InputError for what is no whole gzip."""
    stream = zlib.decompressobj(wbits=31)
    try:
        result = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise InputError(f"the data is no gzip ({error})") from error
    if len(result) > limit:
        raise TooLargeError(f"the data is larger than {limit} bytes when unpacked")
    if not stream.eof:
        raise InputError("the gzip data is cut off")
    return result


def gzipped(data: bytes) -> bytes:
    """Compressed bytes; higher levels take four times as long for a quarter of the size."""
    return gzip.compress(data, 1, mtime=0)


def read_npy(data: bytes, limit: int) -> NDArray[Any]:
    """An array of numbers in the .npy format; InputError for anything else.

    TooLargeError if the header says more than `limit` bytes, before anything is allocated.
    """
    stream = io.BytesIO(data)
    try:
        shape, dtype = read_header(stream)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise InputError(f"an array of {dtype} came: send integers or floats")
        size = math.prod(shape) * dtype.itemsize
        if any(n < 0 for n in shape) or size > limit:
            raise TooLargeError(f"an array of {size} bytes is too large: at most {limit} are taken")
        if len(data) - stream.tell() != size:
            raise InputError("the array does not have the length that its header says")
        stream.seek(0)
        return np.asarray(np.load(stream, allow_pickle=False))
    except InputError:
        raise
    except Exception as error:  # numpy parses headers as Python literals, which fails in many ways
        raise InputError(f"the data is no npy array ({type(error).__name__})") from error
