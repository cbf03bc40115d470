"""The whole history of a case as plain JSON and arrays, and back; shared parts are written once."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from limnet.case.state import Book, History, ObjectState, Round, frozen_array
from limnet.image.slices import SliceMask
from limnet.prompts import MaskPrompt, Prompt2D, prompt_from_json, prompt_to_json
from limnet.settings import check_scope

T = TypeVar("T")
_PLAIN = ("pending", "bounds", "anchor", "window", "finished", "name", "deleted")  # fields of a state, JSON as they are


def pack_book(book: Book, depth: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Take a history of a case with `depth` slices apart: its JSON part, and members of a session file.

    These are `slices.bin`, the compressed slices one after the other, and with a row for each state `table.npy` (number
    of each slice in that list, -1 for empty), `known.npy`, `quality.npy`.
    """
    stored: dict[int, tuple[int, SliceMask]] = {}
    rounds: dict[int, tuple[int, Round]] = {}
    states = [state for history in book.histories.values() for state in history.states]
    table = np.full((len(states), depth), -1, dtype=np.int32)
    known = np.zeros((len(states), depth), dtype=bool)
    quality = np.ones((len(states), depth), dtype=np.float32)
    plain_states = []
    for row, state in enumerate(states):
        for i, piece in enumerate(state.slices):
            if piece is not None:
                table[row, i] = stored.setdefault(id(piece), (len(stored), piece))[0]
        known[row, sorted(state.known)] = True
        quality[row] = state.quality
        own = {name: getattr(state, name) for name in _PLAIN}
        plain_states.append({**own, "rounds": [rounds.setdefault(id(r), (len(rounds), r))[0] for r in state.rounds]})
    pieces = [piece for _, piece in stored.values()]
    plain = {
        "objects": [
            {"name": name, "states": len(history.states), "position": history.position}
            for name, history in book.histories.items()
        ],
        "done": list(book.done),
        "undone": list(book.undone),
        "states": plain_states,
        "rounds": [_round_to_json(r) for _, r in rounds.values()],
        "slices": [[*piece.shape, *piece.box, piece.area, len(piece.packed)] for piece in pieces],
    }
    arrays = {"table.npy": table, "known.npy": known, "quality.npy": quality}
    slices = b"".join(piece.packed for piece in pieces)
    return plain, {"slices.bin": slices, **{name: _npy(array) for name, array in arrays.items()}}


def unpack_book(plain: dict[str, Any], members: Mapping[str, bytes], shape: Sequence[int], axis: int) -> Book:
    """Put a history together again, for a volume of a shape (D, H, W) along an axis.

    Parts that do not fit together raise ValueError, KeyError, TypeError, IndexError or zlib.error.
    """
    size = (len(plain["states"]), int(shape[axis]))
    pieces = _pieces(plain["slices"], members["slices.bin"], tuple(int(n) for a, n in enumerate(shape) if a != axis))
    rounds = [_round_from_json(data) for data in plain["rounds"]]
    table = _array(members["table.npy"], np.int32, size)
    known = _array(members["known.npy"], np.bool_, size)
    quality = _array(members["quality.npy"], np.float32, size)
    if table.size and not -1 <= table.min() <= table.max() < len(pieces):
        raise ValueError("slice numbers out of range")
    states = []
    for row, data in enumerate(plain["states"]):
        done = tuple(rounds[i] for i in data["rounds"])
        states.append(
            ObjectState(
                slices=tuple(None if i < 0 else pieces[i] for i in table[row].tolist()),
                quality=frozen_array(quality[row].astype(np.float32)),
                known=frozenset(np.flatnonzero(known[row]).tolist()),
                prompts=_prompts(done, shape, axis),
                pending=tuple(int(i) for i in data["pending"]),
                bounds=_pair(data["bounds"], int),
                anchor=data["anchor"],
                window=_pair(data["window"], float),
                rounds=done,
                finished=bool(data["finished"]),
                name=None if data.get("name") is None else str(data["name"]),  # sessions of version 1 lack both
                deleted=bool(data.get("deleted", False)),
            )
        )
    histories, start = {}, 0
    for entry in plain["objects"]:
        own = tuple(states[start : start + entry["states"]])
        start += entry["states"]
        if not 0 <= entry["position"] < len(own):
            raise ValueError(f"object {entry['name']!r} has no state {entry['position']}")
        histories[str(entry["name"])] = History(own, int(entry["position"]))
    done_names, undone_names = tuple(plain["done"]), tuple(plain["undone"])
    for name, history in histories.items():
        left = len(history.states) - 1 - history.position
        if done_names.count(name) != history.position or undone_names.count(name) > left:
            raise ValueError(f"the steps of object {name!r} do not add up")
    if start != len(states) or not set(done_names + undone_names) <= set(histories):
        raise ValueError("states and objects do not add up")
    return Book(histories, done_names, undone_names)


def _pair(data: Sequence[Any] | None, kind: Callable[[Any], T]) -> tuple[T, T] | None:
    return None if data is None else (kind(data[0]), kind(data[1]))


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array(data: bytes, kind: type[np.generic], shape: tuple[int, int]) -> NDArray[Any]:
    array = np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    if array.dtype != np.dtype(kind) or array.shape != shape:
        raise ValueError(f"an array is {array.dtype} {array.shape}, expected {np.dtype(kind)} {shape}")
    return array


def _pieces(rows: list[list[int]], data: bytes, plane: tuple[int, ...]) -> list[SliceMask]:
    pieces, offset = [], 0
    for height, width, top, left, box_height, box_width, area, length in rows:
        packed = data[offset : offset + length]
        offset += length
        fits = (height, width) == plane and 0 <= top <= height - box_height and 0 <= left <= width - box_width
        size = box_height * box_width
        if not fits or box_height < 1 or box_width < 1:
            raise ValueError("a slice does not fit the volume")
        if len(zlib.decompressobj().decompress(packed, size + 1)) != size:
            raise ValueError("a slice has the wrong size")
        pieces.append(SliceMask((height, width), (top, left, box_height, box_width), packed, area))
    if offset != len(data):
        raise ValueError("slices are missing or left over")
    return pieces


def _prompts(rounds: Sequence[Round], shape: Sequence[int], axis: int) -> dict[int, tuple[Prompt2D, ...]]:
    """Prompts per slice, from the rounds that made them; a mask prompt replaces what came before it."""
    prompts: dict[int, tuple[Prompt2D, ...]] = {}
    for done in rounds:
        if isinstance(done.prompt, MaskPrompt) and not done.prompt.frozen:
            continue
        for index, part in (placed for prompt in done.stated for placed in prompt.on_slices(shape, axis)):
            prompts[index] = (part,) if part.kind == "mask" else (*prompts.get(index, ()), part)
    return prompts


def _round_to_json(done: Round) -> dict[str, Any]:
    return {
        **vars(done),
        "prompt": None if done.prompt is None else prompt_to_json(done.prompt),
        "marks": [prompt_to_json(prompt) for prompt in done.marks],
    }


def _round_from_json(data: dict[str, Any]) -> Round:
    """Sessions of older versions lack what came later."""
    return Round(
        prompt=None if data["prompt"] is None else prompt_from_json(data["prompt"]),
        index=int(data["index"]),
        scope=None if data["scope"] is None else check_scope(data["scope"]),
        computed=int(data["computed"]),
        kept=int(data["kept"]),
        reanswered=tuple(int(i) for i in data.get("reanswered", ())),
        accepted=bool(data.get("accepted", False)),
        marks=tuple(prompt_from_json(mark) for mark in data.get("marks", ())),
    )
