"""Prompts as plain JSON, for session files and for `--prompts prompts.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limnet.errors import InputError
from limnet.image.bitmask import BitMask
from limnet.prompts import Box, Click, Lasso, MaskPrompt, Prompt, Scribble


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """One prompt as a dictionary of plain values, with its kind under "type"."""
    data: dict[str, Any] = {"type": prompt.kind, **vars(prompt)}
    if isinstance(mask := data.get("mask"), BitMask):
        data["mask"] = mask.to_json()
    if isinstance(prompt, Scribble):
        del data["mask" if prompt.mask is None else "points"]
    return data


def prompt_from_json(data: Any) -> Prompt:
    """Read one prompt; every value is checked as if a user had typed it.

    Raises:
        InputError: for an unknown type, missing or unknown keys, or values the prompt itself refuses.
    """
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _READERS:
        raise InputError(
            f'a prompt in JSON is an object with "type" one of {", ".join(_READERS)}; got {str(data)[:80]!r}'
        )
    read, required, optional = _READERS[kind]
    keys = set(data) - {"type"}
    if not required <= keys or keys - required - optional:
        raise InputError(
            f"a {kind} in JSON needs {', '.join(sorted(required)) or 'nothing'} "
            f"and may have {', '.join(sorted(optional)) or 'nothing else'}; "
            f"got {', '.join(sorted(map(str, keys))) or 'nothing'}"
        )
    return read(data)


def _scribble(data: dict[str, Any]) -> Scribble:
    mask = data.get("mask")
    return Scribble(
        points=data.get("points", ()),
        positive=data.get("positive", True),
        mask=None if mask is None else BitMask.from_json(mask),
    )


_Reader = Callable[[dict[str, Any]], Prompt]
_READERS: dict[str, tuple[_Reader, set[str], set[str]]] = {
    "click": (lambda d: Click(d["point"], d.get("positive", True)), {"point"}, {"positive"}),
    "scribble": (_scribble, set(), {"points", "mask", "positive"}),
    "box": (lambda d: Box(d["lo"], d["hi"]), {"lo", "hi"}, set()),
    "lasso": (lambda d: Lasso(d["points"], d.get("positive", True)), {"points"}, {"positive"}),
    "mask": (
        lambda d: MaskPrompt(BitMask.from_json(d["mask"]), d.get("index"), d.get("frozen", True)),
        {"mask"},
        {"index", "frozen"},
    ),
}
