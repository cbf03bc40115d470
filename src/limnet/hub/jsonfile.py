"""Small JSON files of a model folder: read with every doubt checked, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limnet._version import __version__
from limnet.errors import MissingFileError, ModelFormatError
from limnet.volume_io.atomic import atomic_write

FORMAT_VERSION = 1
"""Version of the folder layout this library writes; it reads this one and older ones."""

_LIMIT = 1 << 20  # bytes; a config or an index is a few hundred


def read_object(path: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        hint: What to do when it is missing; ends the message.

    Raises:
        MissingFileError: If there is no such file.
        ModelFormatError: If it is too large, not UTF-8, not JSON or not an object.
    """
    try:
        size = path.stat().st_size
        if size > _LIMIT:
            raise ModelFormatError(f"{path} is {size} bytes; at most {_LIMIT} are expected. Not a limnet file")
        text = path.read_bytes().decode("utf-8")
        found = json.loads(text, parse_constant=_refuse_constant)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path} is missing; {hint}") from error
    except IsADirectoryError as error:
        raise ModelFormatError(f"{path} is a folder; a JSON file is expected") from error
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} is not readable as JSON ({error}); get the model again") from error
    if not isinstance(found, dict):
        raise ModelFormatError(f"{path} holds a JSON {type(found).__name__}; an object {{...}} is expected")
    return found


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented, with a line end."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    atomic_write(path, write)


def check_version(found: Mapping[str, Any], path: Path) -> None:
    """Refuse a file of an unknown or newer format version.

    Raises:
        ModelFormatError: If `format_version` is missing, no positive integer, or newer than `FORMAT_VERSION`.
    """
    version = found.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelFormatError(
            f"{path} has format_version {version!r}; a whole number from 1 to {FORMAT_VERSION} is expected. "
            "Not written by limnet, or damaged"
        )
    if version > FORMAT_VERSION:
        raise ModelFormatError(
            f"{path} has format version {version}, written by limnet {found.get('limnet_version', 'unknown')}; "
            f"limnet {__version__} reads up to version {FORMAT_VERSION}. Upgrade: pip install --upgrade limnet"
        )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")
