"""The folder a server may look into: listing what can be opened, and paths that do not leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limnet.errors import InputError, MissingFileError
from limnet.image.io.formats import READERS, is_dicom, known_suffix
from limnet.image.io.pictures import FRAME_SUFFIXES

_MANY = 2000  # entries listed of a folder: more do not help anybody to choose
_LOOK = 3  # files of a folder looked at to tell whether it is a series


class Folder:
    """A folder and what is under it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not self.root.is_dir():
            raise MissingFileError(f"{root} is no folder: give a volume or a folder with volumes")

    def inside(self, path: str, *, new: bool = False) -> Path:
        """The real path of one relative to the root, "/" between names; `new` ones need a folder alone.

        InputError if it leaves the root, by ".." or by a link; MissingFileError if it is not there.
        """
        place = (self.root / path).resolve()
        if not place.is_relative_to(self.root):
            raise InputError(f"{path} is outside of {self.root}: start `limnet view` in a folder that holds it")
        if not new and not place.exists():
            raise MissingFileError(f"{path} is not there any more")
        if new and not place.parent.is_dir():
            raise MissingFileError(f"there is no folder {Path(path).parent}: choose another one")
        return place

    def relative(self, path: Path) -> str:
        """A path as the page shows it."""
        place = path.resolve()
        return place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else place.as_posix()

    def listing(self, path: str = "") -> dict[str, Any]:
        """Folders, volumes and sessions of a folder, as JSON values; hidden and other files are left out."""
        folder = self.inside(path)
        if not folder.is_dir():
            raise InputError(f"{path} is no folder")
        try:
            names = sorted(folder.iterdir(), key=lambda p: p.name.lower())
        except OSError as error:
            raise InputError(f"folder {path or self.root.name} cannot be listed: {error.strerror}") from error
        entries = [e for p in names[:_MANY] if not p.name.startswith(".") and (e := self._entry(p)) is not None]
        relative = self.relative(folder)
        return {
            "path": "" if relative == "." else relative,
            "root": self.root.name or str(self.root),
            "series": is_series(folder),
            "entries": sorted(entries, key=lambda e: e["kind"] != "folder"),
            "more": max(0, len(names) - _MANY),
        }

    def _entry(self, path: Path) -> dict[str, Any] | None:
        try:
            if not path.resolve().is_relative_to(self.root):
                return None
            if path.is_dir():
                kind, size = ("series" if is_series(path) else "folder"), None
            elif path.name.endswith(".limnet"):
                kind, size = "session", path.stat().st_size
            elif known_suffix(path, READERS) or path.suffix.lower() == ".dcm":
                kind, size = "volume", path.stat().st_size
            else:
                return None
        except OSError:
            return None
        return {"name": path.name, "path": self.relative(path), "kind": kind, "size": size}


def is_series(folder: Path) -> bool:
    """Whether a folder holds images that make one volume: its first files are DICOM, or all frames of a film."""
    try:
        files = []
        for path in folder.iterdir():
            if not path.name.startswith(".") and path.is_file():
                files.append(path)
                if len(files) > _LOOK:
                    break
        if not files:
            return False
        if all(p.suffix.lower() in FRAME_SUFFIXES for p in files):
            return len(files) > 1
        return any(known_suffix(p, READERS) is None and is_dicom(p) for p in files) or any(
            p.suffix.lower() == ".dcm" for p in files
        )
    except OSError:
        return False
