"""Arrays on the wire of the nnInteractive protocol: a small header, then blosc2 chunks.

Layout (little-endian): b"NNIA", u8 version (1), u8 codec (1 zstd, 2 lz4), u8 number of axes, u8 length of the dtype
name, the name, i64 per axis, u32 number of chunks; per chunk u64 raw length, u64 packed length, a blosc2 chunk.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from limnet.errors import InputError
from limnet.server.protocols.requests import TooLargeError

_MAGIC, _VERSION = b"NNIA", 1
_CHUNK = 1 << 30  # bytes: a blosc2 chunk holds less than 2 GiB
_MOST_AXES = 4
_DTYPES = frozenset(  # what images and masks are made of
    ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float16", "float32", "float64")
)


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
