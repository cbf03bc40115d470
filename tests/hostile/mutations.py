"""Damage: single bytes, whole blocks, lines of text headers, leaves of JSON, fields of binary headers."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np

Files = dict[str, bytes]

NUMBERS = [str(n) for n in (0, -1, 1, 2, 7, 255, 32767, 65536, -32768, 99999999)]
NUMBERS += ["9" * 40, "1e308", "-1e-308", "nan", "inf"]
TEXTS = ["", " ", "x", "\0", "é" * 9, "../../../etc/passwd", "A" * 3000, "{}", "%d", "LIST", "True", "-0.0"]
LEAVES: list[Any] = [None, True, False, -1, 0, 1, 2, 10**30, 1e308, 0.5]
LEAVES += ["", "x", [], {}, [0], [[[]]], {"a": 1}, "A" * 3000]
FIELDS: list[float] = [0, 1, -1, 2, 3, 4, 5, 7, 16, 255, 256, 348, 1792, 4096, 32767, -32768, 2**31 - 1]
FIELDS += [float("nan"), float("inf"), 1e30, -1e30]


def in_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """One to three faults of a transfer, a disk or an editor; half of them in the first 600 bytes."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = len(changed)
        if size < 2:
            return bytes(changed)
        at = int(rng.integers(min(size, 600))) if rng.random() < 0.5 else int(rng.integers(size))
        length = int(rng.integers(1, 1 + min(64, size - at)))
        match int(rng.integers(8)):
            case 0 | 1:
                changed[at] ^= 1 << int(rng.integers(8))
            case 2:
                changed[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
            case 3:
                del changed[at:]
            case 4:
                del changed[at : at + length]
            case 5:
                changed[at:at] = rng.bytes(length)
            case 6:
                changed[at : at + length] = rng.bytes(length)
            case _:
                changed[at : at + length] = bytes(length)
    return bytes(changed)


def in_text(rng: np.random.Generator, text: str) -> str:
    """A line of a text header left out, doubled, or with another value."""
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    line = lines[number]
    numbers = list(re.finditer(r"-?\d+(\.\d+)?(e-?\d+)?", line))
    match int(rng.integers(5)):
        case 0:
            del lines[number]
        case 1:
            lines.insert(number, line)
        case 2 if numbers:
            found = numbers[int(rng.integers(len(numbers)))]
            lines[number] = line[: found.start()] + str(rng.choice(NUMBERS)) + line[found.end() :]
        case 3:
            key = re.match(r"[^:=]*[:=]+ ?", line)
            lines[number] = (key[0] if key else "") + str(rng.choice(TEXTS))
        case _:
            words = line.split(" ")
            words[int(rng.integers(len(words)))] = str(rng.choice([*NUMBERS, *TEXTS]))
            lines[number] = " ".join(words)
    return "\n".join(lines)


def in_json(rng: np.random.Generator, content: Any) -> Any:
    """One value anywhere replaced, left out, doubled or wrapped."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    if not isinstance(content, (dict, list)) or not content or rng.random() < 0.02:
        return LEAVES[int(rng.integers(len(LEAVES)))]
    walk(content)
    node, key = places[int(rng.integers(len(places)))]
    match int(rng.integers(5)):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[f"{key}x"] = node[key]
        case 2 if isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
            node[key] = -node[key] if rng.random() < 0.3 else node[key] * int(rng.choice([2, 1000, 10**9]))
        case 3:
            node[key] = [node[key]]
        case _:
            node[key] = LEAVES[int(rng.integers(len(LEAVES)))]
    return content


def as_json(content: Any) -> bytes:
    """JSON as its writers make it, infinite numbers included."""
    return json.dumps(content).encode()


def in_nifti_header(rng: np.random.Generator, header: bytes) -> bytes:
    """One field of a NIfTI-1 header set to an odd value."""
    from nibabel.nifti1 import header_dtype

    record = np.frombuffer(header[:348], header_dtype).copy()
    name = str(rng.choice(header_dtype.names))
    value = FIELDS[int(rng.integers(len(FIELDS)))]
    field = record[name].reshape(-1)
    with np.errstate(all="ignore"):
        if field.dtype.kind == "S":
            field[...] = rng.bytes(field.dtype.itemsize)
        else:
            at = int(rng.integers(field.size))
            field[at] = np.array(value if np.isfinite(value) or field.dtype.kind == "f" else 0).astype(field.dtype)
    return record.tobytes() + header[348:]
