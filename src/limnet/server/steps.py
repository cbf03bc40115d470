"""What the user did, for the screen: where prompts lie, and the history of steps in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from limnet.case.state import Book, History
from limnet.image.slices import area
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Scribble


def mark_of(prompt: Prompt) -> dict[str, Any] | None:
    """Where the user marked something, for markers on the screen; masks are seen without."""
    if isinstance(prompt, Click):
        return {"kind": "click", "points": [list(prompt.point)], "positive": prompt.positive}
    if isinstance(prompt, Box):
        return {"kind": "box", "points": [list(prompt.lo), list(prompt.hi)], "positive": True}
    if isinstance(prompt, (Scribble, Lasso)) and prompt.points:
        points = [list(p) for p in prompt.points]
        return {"kind": prompt.kind, "points": points, "positive": prompt.positive}
    return None


def steps_done(book: Book) -> list[dict[str, Any]]:
    """What each step was, oldest first."""
    return _told(book, book.done, dict.fromkeys(book.histories, 0))


def steps_undone(book: Book) -> list[dict[str, Any]]:
    """What redo would make again, the next one first."""
    return _told(book, book.undone[::-1], {key: history.position for key, history in book.histories.items()})


def _told(book: Book, keys: Iterable[str], position: dict[str, int]) -> list[dict[str, Any]]:
    names = book.names
    result = []
    for key in keys:
        position[key] += 1
        history = book.histories[key]
        name = names.get(key) or history.states[position[key]].name or key
        result.append({"object": name, **_step_text(key, history, position[key])})
    return result


def _step_text(key: str, history: History, position: int) -> dict[str, Any]:
    """A step in words, and the slice it was made on."""
    before, after = history.states[position - 1], history.states[position]
    if after.deleted != before.deleted:
        return {"text": "deleted", "index": None}
    if after.name != before.name and after.rounds == before.rounds:
        return {"text": f"renamed, was {before.name or key}", "index": None}
    if after.finished != before.finished:
        return {"text": "locked" if after.finished else "unlocked", "index": None}
    if not after.rounds:
        return {"text": "reset", "index": None}
    last = after.rounds[-1]
    if last.accepted and isinstance(last.prompt, MaskPrompt):
        more = last.prompt.mask.count - area(before.slices[last.index])  # accepting alone changes nothing
        return {
            "text": f"{'larger' if more > 0 else 'smaller'} answer" if more else "slice accepted",
            "index": last.index,
        }
    if last.prompt is None or len(after.rounds) == len(before.rounds):
        return {"text": "propagated", "index": last.index}
    kind: str = last.prompt.kind
    if isinstance(last.prompt, MaskPrompt) and last.prompt.index is not None:
        kind = "drawn by hand"
    sign = "" if getattr(last.prompt, "positive", True) else " −"
    return {"text": kind + sign, "index": last.index}
