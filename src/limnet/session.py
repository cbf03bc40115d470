"""Session files: a whole case in one zip file, so that nothing is lost when the program dies.

Members: `manifest.json` (format, version, sha256 of every other member), `case.json` (prompts, settings, steps, the
volume's place), `slices.bin`, `table.npy`, `known.npy`, `quality.npy` (all states of all objects), and `voxels.zlib`
for a volume that was opened from memory. Nothing in it is code: no pickle. Files are replaced in one step, so a killed
process leaves the last complete one.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet._version import __version__
from limnet.errors import LimnetError, MissingFileError, SessionError
from limnet.session_states import PackedBook, pack_book, unpack_book
from limnet.session_volume import as_given, rebuild
from limnet.settings import Settings
from limnet.volume import Volume
from limnet.volume_io.atomic import atomic_write

if TYPE_CHECKING:
    from limnet.case import Case
    from limnet.engine import Engine
    from limnet.history import Book

FORMAT = "limnet-session"
VERSION = 1
_MEMBERS = ("case.json", "slices.bin", "table.npy", "known.npy", "quality.npy")
_LARGEST_MANIFEST = 1 << 20  # bytes; names of objects are all that grows in it
_ADVICE = "Use a copy if you have one; otherwise open the volume again"


@dataclass(frozen=True)
class Session:
    """What a session file holds, checked.

    Attributes:
        path: The file.
        volume: The volume, read again or from the file.
        axis: Axis of the slices.
        window: Intensity window the user chose, or None.
        settings: Settings of the case.
        identity: What the networks were.
        autosave: Whether the file was kept up to date after every step.
        book: All objects with their whole histories.
    """

    path: Path
    volume: Volume
    axis: int
    window: tuple[float, float] | None
    settings: Settings
    identity: dict[str, Any] | None
    autosave: bool
    book: Book


def write_session(case: Case, path: Path) -> Path:
    """Write a case to a session file, atomically; returns the path.

    Raises:
        SaveError: if the file cannot be written; what was there before is untouched.
    """
    record = case._record()
    packed = pack_book(record.book, len(case.view))
    about = {
        "volume": record.about,
        "axis": case.axis,
        "window": record.window,
        "settings": case.settings.to_json(),
        "engine": record.identity,
        "autosave": case.session is not None and case.session == path.absolute(),
        "book": packed.plain,
    }
    members = {
        "case.json": json.dumps(about, allow_nan=False).encode(),
        "slices.bin": packed.slices,
        "table.npy": _npy(packed.table),
        "known.npy": _npy(packed.known),
        "quality.npy": _npy(packed.quality),
    }
    if record.voxels is not None:
        members["voxels.zlib"] = record.voxels
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "limnet": __version__,
        "summary": {
            "volume": record.about["path"],
            "shape": record.about["shape"][:3],
            "objects": list(record.book.histories),
            "steps": len(record.book.done),
        },
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }

    def write(target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr(_entry("manifest.json"), json.dumps(manifest, indent=1))
            for name, data in members.items():
                stored = name in ("slices.bin", "voxels.zlib")  # compressed already
                file.writestr(_entry(name), data, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)

    return atomic_write(path, write)


@dataclass(frozen=True)
class Summary:
    """What a session file says of itself at its head.

    Attributes:
        volume: Path of the volume, None if it is in the file.
        shape: (D, H, W).
        objects: Names of the objects.
        steps: Steps done so far.
    """

    volume: str | None
    shape: tuple[int, ...]
    objects: tuple[str, ...]
    steps: int


def read_summary(path: Path) -> Summary | None:
    """The head of a session file, quickly and unchecked; None for anything else, and for files of older versions."""
    try:
        with zipfile.ZipFile(path) as file:
            head = file.getinfo("manifest.json")
            if head.file_size > _LARGEST_MANIFEST:
                return None
            manifest = json.loads(file.read(head))
        if manifest["format"] != FORMAT:
            return None
        about = manifest["summary"]
        return Summary(
            None if about["volume"] is None else str(about["volume"]),
            tuple(int(n) for n in about["shape"]),
            tuple(str(name) for name in about["objects"]),
            int(about["steps"]),
        )
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, zlib.error):
        return None


def read_session(path: Path, volume: Any = None) -> Session:
    """Read and check a session file.

    Args:
        path: The file.
        volume: Volume, array or path to use instead of the recorded place; has to hold the same voxels.

    Raises:
        MissingFileError: if there is no such file.
        SessionError: if it is damaged, truncated, no session file, newer, or belongs to another volume.
    """
    members = _members(path)
    try:
        about = json.loads(members["case.json"])
        recorded = about["volume"]
        axis = about["axis"]
        if axis not in (0, 1, 2):
            raise ValueError(f"axis {axis!r}")
        shape = tuple(int(n) for n in recorded["shape"][:3])
        packed = PackedBook(
            about["book"],
            members["slices.bin"],
            _array(members["table.npy"], np.dtype(np.int32)),
            _array(members["known.npy"], np.dtype(bool)),
            _array(members["quality.npy"], np.dtype(np.float32)),
        )
        book = unpack_book(packed, shape, axis)
        settings = Settings.from_json(about["settings"])
        window = about["window"]
        found = rebuild(recorded, members.get("voxels.zlib"), path, as_given(volume, recorded))
        return Session(
            path=path,
            volume=found,
            axis=axis,
            window=None if window is None else (float(window[0]), float(window[1])),
            settings=settings,
            identity=about["engine"],
            autosave=bool(about["autosave"]),
            book=book,
        )
    except SessionError:
        raise
    except (LimnetError, ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error) as error:
        if volume is not None and isinstance(error, LimnetError):
            raise  # what the user gave as volume cannot be used
        raise SessionError(f"{path} is damaged: its parts do not fit together ({error}). {_ADVICE}") from error


def restore(session: Session, engine: Engine) -> Case:
    """A case in the state of a session; it goes on autosaving to the file if it did before.

    Warns:
        UserWarning: if the networks are not the ones the session was made with.
    """
    from limnet.case import Case

    if (session.identity or {}).get("sha256") != (engine.identity or {}).get("sha256"):
        warnings.warn(
            f"{session.path} was made with the model {_named(session.identity)}, this is {_named(engine.identity)}: "
            "what was segmented so far stays as it is, new rounds use this model. Load the other to go on as before",
            UserWarning,
            stacklevel=3,
        )
    case = Case(engine, session.volume, axis=session.axis, window=session.window, settings=session.settings)
    case._adopt(session.book, session.path if session.autosave else None)
    return case


def _members(path: Path) -> dict[str, bytes]:
    """All members of a session file, each with the right checksum."""
    if path.is_dir():
        raise SessionError(f"{path} is a directory, not a session file: give the file that save_session wrote")
    if not path.exists():
        raise MissingFileError(f"there is no session file {path}: check the name, or open the volume to start one")
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            if "manifest.json" not in names:
                raise SessionError(f"{path} is a zip file but no limnet session: give a file that save_session wrote")
            manifest = json.loads(file.read("manifest.json"))
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise SessionError(f"{path} is a zip file but no limnet session: give a file that save_session wrote")
            version = manifest.get("version")
            if not isinstance(version, int) or version > VERSION:
                raise SessionError(
                    f"{path} has session format {version!r}, this limnet {__version__} reads up to {VERSION}: "
                    f"it was written by limnet {manifest.get('limnet')}; install that or a newer one"
                )
            sums = manifest["sha256"]
            members = {name: file.read(name) for name in sums}
    except zipfile.BadZipFile as error:
        raise SessionError(
            f"{path} is no session file, or damaged or truncated ({error}; {path.stat().st_size} bytes). {_ADVICE}"
        ) from error
    except (KeyError, ValueError, TypeError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        if isinstance(error, SessionError):
            raise
        raise SessionError(f"{path} is damaged ({error}). {_ADVICE}") from error
    except OSError as error:
        raise SessionError(f"{path} cannot be read ({error}). {_ADVICE}") from error
    for name in _MEMBERS:
        if name not in members:
            raise SessionError(f"{path} is damaged: {name} is missing. {_ADVICE}")
    for name, data in members.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise SessionError(f"{path} is damaged: {name} does not have the recorded checksum. {_ADVICE}")
    return members


def _entry(name: str) -> zipfile.ZipInfo:
    """A fixed date: the same session gives the same bytes."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype != dtype or array.ndim != 2:
        raise ValueError(f"an array is {array.dtype} {array.shape}, expected {dtype}")
    return np.asarray(array)


def _named(identity: dict[str, Any] | None) -> str:
    if not identity:
        return "(unknown)"
    return f"{identity.get('name', '(unnamed)')} [{str(identity.get('sha256', ''))[:12]}]"
