"""dataset.json of nnU-Net and of the Medical Segmentation Decathlon: labels, channels, modality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from limnet.errors import FileFormatError, MissingFileError

_MR = ("mr", "mri", "t1", "t2", "flair", "adc", "dwi", "pd", "swi")


def read_datalist(path: Path) -> dict[str, Any]:
    """Content of a dataset.json.

    Raises:
        MissingFileError: not there.
        FileFormatError: no JSON object.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path} could not be read as JSON: {error}. Copy it again") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds a {type(content).__name__}; an object with 'labels' is expected")
    return content


def label_names(content: dict[str, Any], path: Path) -> tuple[dict[int, str], tuple[int, ...]]:
    """Label names in any of the customary forms.

    Args:
        content: of dataset.json. `labels` is {"0": "background", "1": "liver"} (decathlon, nnU-Net v1) or
            {"background": 0, "liver": 1, "both": [1, 2], "ignore": 3} (nnU-Net v2; lists are regions).
        path: for messages.

    Returns:
        id -> name without the background, and the ids to be ignored.

    Raises:
        FileFormatError: none of these forms.
    """
    given = content.get("labels")
    names: dict[int, list[str]] = {}
    ignored = set()
    try:
        if not isinstance(given, dict) or not given:
            raise ValueError(f"'labels' is {given!r}")
        for key, value in given.items():
            if isinstance(value, str) and str(key).isdigit():
                names.setdefault(int(key), []).append(value)
                continue
            for number in value if isinstance(value, (list, tuple)) else [value]:
                names.setdefault(int(number), []).append(str(key))
                if str(key).lower() == "ignore":
                    ignored.add(int(number))
    except (ValueError, TypeError) as error:
        raise FileFormatError(
            f'{path}: {error}; labels are expected as {{"1": "liver"}} or {{"liver": 1}}. Mend the file'
        ) from error
    known = {i: " / ".join(n) for i, n in sorted(names.items()) if i != 0 and i not in ignored}
    return known, tuple(sorted(ignored))


def modality_of(content: dict[str, Any], channel: int | None = None) -> str:
    """ "ct", "mr", "us" or "other" of a channel (the first unless told), by `modality` or `channel_names`."""
    named = content.get("channel_names") or content.get("modality") or {}
    name = str(named.get(str(channel or 0), "") if isinstance(named, dict) else "").lower()
    words = name.replace("-", " ").replace("_", " ").split()
    if "ct" in words or "cbct" in words:
        return "ct"
    if any(word.startswith(_MR) for word in words):
        return "mr"
    return "us" if "us" in words or "ultrasound" in words else "other"
