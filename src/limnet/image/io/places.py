"""Paths that were written into a file, perhaps on another machine or system."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath


def local_path(text: str, folder: Path) -> Path:
    """Where a path leads that is written in a file of `folder`; relative paths count from there.

    A path of Windows on another system becomes one of this system: a relative one with other slashes, an absolute one
    its name in the folder.
    """
    if os.sep == "\\" or "\\" not in text or (folder / text).exists():
        return folder / text
    path = PureWindowsPath(text)
    return folder / path.name if path.anchor else folder.joinpath(*path.parts)


def place_of(text: str, folder: Path) -> Path:
    """Where the file is that a path leads to, as `local_path`; an absolute one may have moved along into the folder."""
    local = local_path(text, folder)
    beside = folder / local.name
    return beside if Path(text).is_absolute() and not local.exists() and beside.exists() else local
