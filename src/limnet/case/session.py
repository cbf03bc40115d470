"""Session files: a whole case in one zip file, so that nothing is lost when the program dies.

Members: `manifest.json` (format, version, sha256 of every other member), `case.json` (prompts, settings, steps, the
volume's place), `slices.bin`, `table.npy`, `known.npy`, `quality.npy` (all states of all objects), and `voxels.zlib`
for a volume that was opened from memory. Nothing in it is code: no pickle. Files are replaced in one step, so a killed
process leaves the last complete one.

Several processes may resume one session, but only one can go on with it. The sha256 of the manifest is the mark of a
file's content; whoever saves checks, under a file lock, that the file still has the mark of what it read or wrote last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limnet._version import __version__
from limnet.case.session_states import pack_book, unpack_book
from limnet.errors import ConflictError, InputError, LimnetError, MissingFileError, SaveError, SessionError
from limnet.image.io.atomic import atomic_write, check_target, save_error
from limnet.image.io.objects import volume_of
from limnet.image.io.reading import place_of
from limnet.image.volume import Volume, checked_spacing
from limnet.settings import Settings

if TYPE_CHECKING:
    from limnet.case.case import Case
    from limnet.case.state import Book


FORMAT = "limnet-session"
VERSION = 2  # of sessions with renamed or deleted objects; others are version 1, which older limnets read, too
_MANIFEST = "manifest.json"
_MEMBERS = ("case.json", "slices.bin", "table.npy", "known.npy", "quality.npy")
_LARGEST_MANIFEST = 1 << 20  # bytes; names of objects are all that grows in it
_ADVICE = "Use a copy if you have one; otherwise open the volume again"
_DAMAGE = (
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
)  # what zipfile and json raise for damaged content
_PATIENCE = 60.0  # seconds to wait for another process that is writing the file; a large session takes a few


@dataclass(frozen=True)
class Session:
    """What a session file holds, checked: the volume, read again, all objects with histories, and the file's mark.

    `autosave` tells whether the file was kept up to date after every step, `identity` what the networks were.
    """

    path: Path
    volume: Volume
    axis: int
    window: tuple[float, float] | None
    settings: Settings
    identity: dict[str, Any] | None
    autosave: bool
    book: Book
    mark: str


def write_session(case: Case, path: Path, overwrite: bool = False) -> Path:
    """Write a case to a session file, atomically; see `Case.save_session`. Returns the path, links followed."""
    place = Path(os.path.realpath(path))
    check_target(place)
    with _alone(place):  # the case as it is now: of several threads the last one to write has the newest steps
        known = case._marks.get(place, ())
        _check_ours(place, known, overwrite)
        members = _packed(case, case.session is not None and case.session == path.absolute())
        case._marks[place] = (*known, _mark(members[_MANIFEST]))  # an interrupt may come before or after the rename

        def write(target: Path) -> None:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
                for name, data in members.items():
                    stored = name in ("slices.bin", "voxels.zlib")  # compressed already
                    file.writestr(_entry(name), data, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)

        written = atomic_write(place, write)
        case._marks[place] = (_mark(members[_MANIFEST]),)
    return written


def _packed(case: Case, autosave: bool) -> dict[str, bytes]:
    """The members of a session file, the manifest first."""
    book, (volume, voxels) = case._book, case._described()
    plain, parts = pack_book(book, len(case.view))
    about = {
        "volume": volume,
        "axis": case.axis,
        "window": case.view.window if case._fixed_window else None,
        "settings": case.settings.to_json(),
        "engine": case._engine.identity,
        "autosave": autosave,
        "book": plain,
    }
    members = {"case.json": json.dumps(about, allow_nan=False).encode(), **parts}
    if voxels is not None:
        members["voxels.zlib"] = voxels
    renamed = any(state["name"] is not None or state["deleted"] for state in plain["states"])
    across = any(done["marks"] for done in plain["rounds"])
    manifest = {
        "format": FORMAT,
        "version": VERSION if renamed or across else 1,
        "limnet": __version__,
        "summary": {
            "volume": volume["path"],
            "shape": volume["shape"][:3],
            "objects": list(book.names.values()),
            "steps": len(book.done),
        },
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    return {_MANIFEST: json.dumps(manifest, indent=1).encode(), **members}


@dataclass(frozen=True)
class Summary:
    """What a session file says of itself at its head; `volume` is None if it is in the file."""

    volume: str | None
    shape: tuple[int, ...]
    objects: tuple[str, ...]
    steps: int


def read_summary(path: Path) -> Summary | None:
    """The head of a session file, quickly and unchecked; None for anything else, and for files of older versions."""
    try:
        with zipfile.ZipFile(path) as file:
            head = file.getinfo(_MANIFEST)
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
        book = unpack_book(about["book"], members, shape, axis)
        settings = about["settings"]
        if unknown := sorted(Settings.unknown(settings)):
            raise SessionError(
                f"{path} was written by a newer limnet: this one, {__version__}, does not know its setting "
                f"{', '.join(unknown)}. Update limnet (pip install --upgrade limnet) and open it again; it is intact"
            )
        settings = Settings.from_stored(settings)
        if not isinstance(about["engine"], (dict, type(None))):
            raise ValueError(f"the model is {about['engine']!r}")
        window = about["window"]
        found = _rebuild(recorded, members.get("voxels.zlib"), path, _as_given(volume, recorded))
        return Session(
            path=path,
            volume=found,
            axis=axis,
            window=None if window is None else (float(window[0]), float(window[1])),
            settings=settings,
            identity=about["engine"],
            autosave=bool(about["autosave"]),
            book=book,
            mark=_mark(members[_MANIFEST]),
        )
    except SessionError:
        raise
    except Exception as error:  # whatever the parts of a damaged file make of numpy, json and zlib
        if volume is not None and isinstance(error, LimnetError):
            raise  # what the user gave as volume cannot be used
        raise SessionError(f"{path} is damaged: its parts do not fit together ({_short(error)}). {_ADVICE}") from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the file meanwhile (SaveError after `_PATIENCE`). Without locks, go on."""
    from filelock import FileLock, Timeout

    place = path.with_name(f".{path.name}.lock")
    lock, held = FileLock(place, timeout=_PATIENCE), True
    try:
        lock.acquire()
    except Timeout as error:
        raise SaveError(
            f"could not save {path}: another process has been writing it for {_PATIENCE:.0f} s. "
            "End that process, or save under another name"
        ) from error
    except (OSError, NotImplementedError):  # a folder without write permission, which saving tells, or without locks
        held = False
    try:
        yield
    finally:
        if held:
            with contextlib.suppress(OSError):  # who waits for the lock sees that its file is gone, and makes a new one
                place.unlink()
            lock.release()


def _check_ours(path: Path, known: Collection[str], overwrite: bool) -> None:
    """Refuse to replace what this case has neither written nor read (InputError, ConflictError)."""
    if not path.exists():
        return
    try:
        with zipfile.ZipFile(path) as file:
            manifest = _manifest(file, path)
    except (*_DAMAGE, SessionError) as error:
        raise InputError(
            f"{path} exists and is no session file, or a damaged one: it would be lost. Give the session another name, "
            "or move that file away first"
        ) from error
    except OSError as error:
        raise save_error(path, error) from error
    if not overwrite and _mark(manifest) not in known:
        raise ConflictError(
            f"{path} holds steps that this case has not seen: another process or case saved it. Nothing was written. "
            "Save this case under another name, or resume the file to go on from there; overwrite=True would lose them"
        )


def _manifest(file: zipfile.ZipFile, path: Path) -> bytes:
    """The manifest of a session file; SessionError if it has none."""
    if _MANIFEST in file.namelist():
        data = file.read(_MANIFEST)
        manifest = json.loads(data)
        if isinstance(manifest, dict) and manifest.get("format") == FORMAT:
            return data
    raise SessionError(f"{path} is a zip file but no limnet session: give a file that save_session wrote")


def _mark(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


def _members(path: Path) -> dict[str, bytes]:
    """All members of a session file, the manifest among them, each with the right checksum."""
    if path.is_dir():
        raise SessionError(f"{path} is a directory, not a session file: give the file that save_session wrote")
    if not path.exists():
        raise MissingFileError(f"there is no session file {path}: check the name, or open the volume to start one")
    try:
        with zipfile.ZipFile(path) as file:
            data = _manifest(file, path)
            manifest = json.loads(data)
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
            f"{path} is no session file, or damaged or truncated ({_short(error)}; {path.stat().st_size} bytes). "
            + _ADVICE
        ) from error
    except SessionError:
        raise
    except _DAMAGE as error:
        raise SessionError(f"{path} is damaged ({_short(error)}). {_ADVICE}") from error
    except OSError as error:
        raise SessionError(f"{path} cannot be read ({_short(error)}). {_ADVICE}") from error
    for name in _MEMBERS:
        if name not in members:
            raise SessionError(f"{path} is damaged: {name} is missing. {_ADVICE}")
    for name, content in members.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise SessionError(f"{path} is damaged: {name} does not have the recorded checksum. {_ADVICE}")
    members[_MANIFEST] = data
    return members


def _short(error: Exception) -> str:
    """What an error says, cut to a length that can be read: zipfile shows damaged names in full."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _entry(name: str) -> zipfile.ZipInfo:
    """A fixed date: the same session gives the same bytes."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


# the volume: by path and digest, or with its voxels


def _digest(array: NDArray[Any]) -> str:
    """Sha256 of dtype, shape and voxels, as hex."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    for part in array:  # slice by slice: a view need not be contiguous
        digest.update(part.tobytes())
    return digest.hexdigest()


def describe(volume: Volume) -> dict[str, Any]:
    """JSON description of a volume, with its path and how it was read from there if it has one."""
    return {
        "path": None if volume.source is None else str(Path(volume.source).absolute()),
        **asdict(volume.selection),
        "sha256": _digest(volume.array),
        "shape": list(volume.array.shape),
        "dtype": volume.array.dtype.str,
        "spacing": list(volume.spacing),
        "affine": volume.affine.tolist(),
        "convention": volume.convention,
        "modality": volume.modality,
    }


def packed_voxels(volume: Volume) -> bytes:
    """Compressed voxels of a volume without a file."""
    return zlib.compress(np.ascontiguousarray(volume.array).data, 1)


def _rebuild(about: dict[str, Any], voxels: bytes | None, session: Path, given: Volume | None) -> Volume:
    """The volume: the `given` one, its own `voxels`, or the file where it was or beside the session; SessionError."""
    if given is not None:
        volume = given
    elif voxels is not None:
        return _embedded(about, voxels, session)
    else:
        volume = _read(about, session)
    if _digest(volume.array) != about["sha256"]:
        raise SessionError(
            f"{session} belongs to another volume: it was made on shape {tuple(about['shape'])}, {about['dtype']}, "
            f"sha256 {about['sha256'][:12]}; {volume.source or 'the given array'} has shape {volume.array.shape} "
            "and other voxels. Give the original volume: resume(path, volume=...)"
        )
    spacing, modality = checked_spacing(about["spacing"]), about["modality"]
    same = volume.spacing == spacing and volume.modality == modality
    return volume if same else replace(volume, spacing=spacing, modality=modality)


def _read(about: dict[str, Any], session: Path) -> Volume:
    place = place_of(about["path"], session.parent)
    if not place.exists():
        raise SessionError(
            f"the volume of {session} is not at {about['path']} any more, nor beside the session file: "
            "put it back, or tell where it is: resume(path, volume=...)"
        )
    try:
        return Volume.read(place, index=about["index"], series=about["series"], gaps=about.get("gaps", "refuse"))
    except LimnetError as error:
        raise SessionError(f"the volume of {session} cannot be read: {error}") from error


def _embedded(about: dict[str, Any], voxels: bytes, session: Path) -> Volume:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    data = zlib.decompressobj().decompress(voxels, size + 1)
    if dtype.kind not in "iuf" or len(data) != size:
        raise SessionError(f"{session} is damaged: its voxels do not fit shape {shape}. Use a copy, or start again")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    volume = Volume.from_array(
        array, affine=np.array(about["affine"]), convention=about["convention"], modality=about["modality"]
    )
    return replace(volume, spacing=checked_spacing(about["spacing"]))


def _as_given(volume: Any, about: dict[str, Any]) -> Volume | None:
    """What a user passed as `volume=` of resume: None, a Volume, a path, or an array."""
    if volume is None or isinstance(volume, Volume):
        return volume
    if isinstance(volume, (str, os.PathLike)):
        return Volume.read(volume, index=about["index"], series=about["series"], gaps=about.get("gaps", "refuse"))
    found = volume_of(volume, about["index"])
    if found is not None:  # an image with a grid of its own
        return found
    return Volume.from_array(volume, affine=np.array(about["affine"]), convention=about["convention"])
