"""Which cases a data set should hold: by its own lists, or by the published ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from limnet.data.dataset import Problem
from limnet.errors import FileFormatError


def listed_in_json(path: Path, keys: Sequence[str]) -> set[str] | None:
    """Stems of the images a dataset.json lists, or None if it cannot be read.

    Args:
        path: the file; its lists hold paths, or {"image": path, "label": path}.
        keys: which lists.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    entries: list[Any] = [entry for key in keys for entry in content.get(key) or []]
    images = [entry.get("image") if isinstance(entry, dict) else entry for entry in entries]
    names = [PurePosixPath(image).name for image in images if isinstance(image, str)]
    return {name.removesuffix(".gz").removesuffix(".nii") for name in names}


def read_text(path: Path) -> str:
    """Content of a list of a data set.

    Raises:
        FileFormatError: no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no text file ({error}). Unpack the archive again") from error


def absent(wanted: Iterable[str], there: Iterable[str], source: str, advice: str, used: bool = True) -> list[Problem]:
    """Problems for cases that are listed but not there, and the other way round.

    Args:
        wanted: listed names.
        there: names on disk.
        source: who lists them, for the message.
        advice: how to get what is missing.
        used: whether cases that are not listed are used all the same.
    """
    wanted, there, problems = set(wanted), set(there), []
    if lost := sorted(wanted - there):
        what = f"{len(lost)} of {len(wanted)} cases of {source} are missing: {_some(lost)}"
        problems.append(Problem("", what, f"get them: {advice}"))
    if more := sorted(there - wanted):
        what = f"{len(more)} cases are not in {source}: {_some(more)}"
        what_then = "they are used all the same" if used else "they belong to no split and are not used"
        problems.append(Problem("", what, f"check where they come from; {what_then}"))
    return problems


def count(number: int, published: int, what: str, access: str) -> list[Problem]:
    """A problem where a data set does not hold as many cases as were published.

    Args:
        number: of cases on disk.
        published: the number that its owner gives.
        what: a case is, in the plural.
        access: how to get what is missing.
    """
    if number == published:
        return []
    advice = f"get it: {access}" if number < published else "take out what does not belong to it"
    return [Problem("", f"{number} {what}, published are {published}", advice)]


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
