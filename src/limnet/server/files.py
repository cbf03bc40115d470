"""Files as a server sees them: the folder it may look into, paths that do not leave it, and what its Save writes."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from limnet.case.case import Case
from limnet.errors import InputError, MissingFileError, SaveError
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


FORMATS = [
    {"suffix": ".nii.gz", "name": "NIfTI (.nii.gz)", "what": ["labels", "object", "objects"]},
    {"suffix": ".nrrd", "name": "NRRD (.nrrd)", "what": ["labels", "object", "objects"]},
    {"suffix": ".mha", "name": "MetaImage (.mha)", "what": ["labels", "object", "objects"]},
    {"suffix": ".dcm", "name": "DICOM SEG (.dcm)", "what": ["labels", "object"]},
    {"suffix": ".rtstruct.dcm", "name": "DICOM RTSTRUCT (.rtstruct.dcm)", "what": ["labels", "object"]},
    {"suffix": ".limnet", "name": "limnet session (.limnet)", "what": ["session"]},
]
"""What the dialog offers, in its order."""


class TakenError(SaveError):
    """Files that are there already, and were not asked to be replaced."""

    status = 409


def save(case: Case, path: Path, what: str, name: str | None = None, overwrite: bool = False) -> list[Path]:
    """Write results of a case; returns the files.

    Args:
        path: File to write; for several objects their names are put before the suffix.
        what: "labels" (all in one file), "object" (the mask of `name`), "objects" (one mask each), "session".
        overwrite: Whether files that are there already are replaced.

    Raises:
        InputError: nothing is marked, an unknown object or suffix, two objects of one file name, or the image itself.
        TakenError: a file is there already, and not `overwrite`; nothing was written.
        SaveError: a file cannot be written.
    """
    if what not in ("labels", "object", "objects", "session"):
        raise InputError(f"{what!r} cannot be saved: labels, object, objects and session can")
    marked = [n for n in case.objects if case.object(n).rounds]
    targets = {path: name or ""}
    if what == "object" and name not in marked:
        raise InputError(f"object {name!r} has no result yet: mark it first")
    if what == "objects":
        base, suffix = split_suffix(path.name)
        targets = {path.with_name(f"{base}_{file_name(n)}{suffix}"): n for n in marked}
        if not marked:
            raise InputError("no object is marked yet, there is nothing to save: click first")
        if len({p.name.lower() for p in targets}) < len(marked):  # as file systems that know no case see them
            raise InputError("two objects would be written to one file, as their names are too much alike: rename one")
    taken = [p.name for p in targets if p.exists()]
    if taken and not overwrite:
        raise TakenError(f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already")
    if what == "session":
        return [case.save_session(path, overwrite=overwrite)]
    if what == "labels":
        return list(case.save_labels(path))
    return [case.object(n).save(p) for p, n in targets.items()]


def saved_bytes(case: Case, title: str, what: str, suffix: str, name: str | None = None) -> tuple[bytes, str]:
    """What `save` would write as one file, and a name for it."""
    if suffix not in [f["suffix"] for f in FORMATS] or what == "objects":
        raise InputError(f"{what} as {suffix!r} cannot be downloaded as one file: save it into a folder")
    base = split_suffix(title)[0] or "volume"
    part = {"object": f"_{file_name(name or '')}", "session": ""}.get(what, "_labels")
    with tempfile.TemporaryDirectory(prefix="limnet-") as folder:
        file = save(case, Path(folder) / f"{base}{part}{suffix}", what, name)[0]
        return file.read_bytes(), file.name


def split_suffix(name: str) -> tuple[str, str]:
    """("ct", ".nii.gz") of "ct.nii.gz"; the longest suffix of `FORMATS`, else the last one."""
    for suffix in sorted((str(f["suffix"]) for f in FORMATS), key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    path = Path(name)
    return path.stem, path.suffix


def file_name(name: str) -> str:
    """An object's name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "object"
