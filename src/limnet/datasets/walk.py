"""Files of a folder and of all folders below it, linked ones too: data sets are often put together by links."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    folder: Path, enter: Callable[[Path], bool] = lambda place: True, above: tuple[str, ...] = ()
) -> Iterator[tuple[Path, list[Path]]]:
    """Folders from `folder` down with the files in them, both sorted by name.

    Links to folders are followed, but for those that lead back to a folder they lie in. Hidden files and folders, and
    `__MACOSX`, are left out.

    Args:
        folder: where to begin.
        enter: asked for every folder below; False leaves it out with all that is in it.
        above: real paths of the folders on the way, for the recursion.

    Yields:
        A folder and its files; links to files that are not there are among them.
    """
    way = (*above, os.path.realpath(folder))
    with os.scandir(folder) as listing:
        entries = sorted((entry.name, entry.is_dir()) for entry in listing if not entry.name.startswith("."))
    yield folder, [folder / name for name, is_folder in entries if not is_folder]
    for place in (folder / name for name, is_folder in entries if is_folder and name != "__MACOSX"):
        if os.path.realpath(place) not in way and enter(place):
            yield from walk(place, enter, way)


def files_below(folder: Path) -> list[Path]:
    """All files of `walk`, sorted by path."""
    return sorted(path for _, files in walk(folder) for path in files)
