"""Where the session files of open cases are kept, and which of them can be resumed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from limnet.case.session import read_summary
from limnet.errors import SaveError
from limnet.image.io.reading import place_of


@dataclass(frozen=True)
class Recent:
    """A session file by its name, what `Workspace.resume` takes.

    `title` is the name of its volume, whose file may be `missing`; `steps` are done so far, the last one was made at
    `changed`, in seconds since 1970.
    """

    name: str
    title: str
    missing: bool
    shape: tuple[int, ...]
    objects: tuple[str, ...]
    steps: int
    changed: float


def private_folder(folder: Path) -> Path:
    """The folder, made if needed, for its owner's eyes only."""
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            folder.chmod(0o700)
    except OSError as error:
        raise SaveError(f"the folder of sessions {folder} cannot be made ({error}): set LIMNET_SESSIONS") from error
    return folder


def list_recent(folder: Path, limit: int) -> list[Recent]:
    """Readable session files of a folder, newest first; others are left out."""
    files: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for path in folder.glob("*.limnet"):
            with contextlib.suppress(OSError):
                files.append((path.stat().st_mtime, path))
    found: list[Recent] = []
    for changed, path in sorted(files, reverse=True):
        summary = read_summary(path)
        if summary is None:
            continue
        volume = None if summary.volume is None else place_of(summary.volume, folder)
        missing = volume is not None and not volume.exists()
        title = "volume" if volume is None else volume.name
        found.append(Recent(path.name, title, missing, summary.shape, summary.objects, summary.steps, changed))
        if len(found) >= limit:
            break
    return found
