"""Files that are either completely written or not touched at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from limnet.errors import SaveError

_TEMPORARY = re.compile(r"\.[0-9a-f]{12}-([0-9a-f]{8})-(\d+)-tmp")
_DAY = 86400.0  # seconds; no save takes that long
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, or save to another disk",
    errno.EDQUOT: "the disk quota is used up: free some space, or save to another disk",
    errno.EACCES: "permission denied: choose a folder you may write to",
    errno.EPERM: "permission denied: choose a folder you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EEXIST: "there is a file of that name: choose another folder",
    errno.ENOTDIR: "there is a file where a folder should be: choose another folder",
    errno.ENAMETOOLONG: "the file name is too long: choose a shorter one",
}


def atomic_write(
    path: str | os.PathLike[str], write: Callable[[Path], object], check: Callable[[Path], object] | None = None
) -> Path:
    """Write a file through a temporary neighbour, so that a crash or a full disk never leaves half a file.

    The temporary file has the full suffix of `path` (such as `.nii.gz`), by which many writers choose their format. It
    is flushed to disk and moved over `path` in one step; a symbolic link is followed, not replaced. Temporary files
    that killed processes left in the folder are removed.

    Args:
        write: called once with the temporary path; has to create that file.
        check: called with it before the file takes its place; raises a SaveError if it is not whole (some writers do
            not notice a full disk).

    Returns the path that was written (links followed). Raises SaveError for a directory, a missing folder, or what the
    system refused (disk full, permissions, ...); other exceptions of `write` pass through. In every case the temporary
    file is removed.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()
    check_target(target)
    _remove_leftovers(target.parent)
    temporary = target.with_name(f".{secrets.token_hex(6)}-{_place()}-{os.getpid()}-tmp{_full_suffix(target)}")
    try:
        write(temporary)
        if target.exists():
            with contextlib.suppress(OSError):
                os.chmod(temporary, target.stat().st_mode & 0o777)
        _flush(temporary)
        if check is not None:
            check(temporary)
        os.replace(temporary, target)
    except SaveError:
        raise
    except OSError as error:
        raise save_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _flush_folder(target.parent)
    return target


@cache
def _place() -> str:
    """Where process numbers count: this computer, and the container in it."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()}{space}".encode()).hexdigest()[:8]


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that are no more: of this computer at once, of others after a day."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.match(entry.name)
            if found is None or (found[1] == _place() and int(found[2]) == os.getpid()):
                continue
            with contextlib.suppress(OSError):
                old = time.time() - entry.stat().st_mtime > _DAY
                if old or (found[1] == _place() and not _runs(int(found[2]))):
                    os.unlink(entry)


def _runs(process: int) -> bool:
    """Whether a process may still be there; always True where asking would end it (Windows)."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _in_words(error: OSError) -> str:
    return _ADVICE.get(error.errno or 0, str(error))


def save_error(path: Path, error: OSError) -> SaveError:
    """A SaveError for `path` that explains a system error in words and keeps its errno."""
    reason = _in_words(error)
    result = SaveError(f"could not save {path}: {reason}. Nothing was changed; a file that was there before is intact")
    result.errno = error.errno
    return result


def made_folder(folder: Path) -> Path:
    """The folder, made if needed; SaveError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"could not make the folder {folder}: {_in_words(error)}") from error
    return folder


def check_target(target: Path) -> None:
    """Raise SaveError for what cannot be written: a folder, or a file in no folder or in one that is closed."""
    if not target.name:
        raise SaveError(f"could not save to {str(target)!r}: it names no file. Give a file name such as mask.nii.gz")
    if target.is_dir():
        raise SaveError(
            f"could not save {target}: it is a directory. Give a file name in it, such as {target}/mask.nii.gz"
        )
    if not target.parent.exists():
        raise SaveError(
            f"could not save {target}: the folder {target.parent} does not exist. Create it or choose another"
        )
    if not target.parent.is_dir():
        raise SaveError(f"could not save {target}: {target.parent} is a file, not a folder. Choose another folder")
    if not os.access(target.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise save_error(target, PermissionError(errno.EACCES, "permission denied"))


def _full_suffix(path: Path) -> str:
    """Last suffix, with the one before it when that is a compression (`a.b.nii.gz` -> `.nii.gz`); in small letters."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes and suffixes[-1] == ".gz" else "".join(suffixes[-1:])


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable where the system lets a folder be flushed (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
