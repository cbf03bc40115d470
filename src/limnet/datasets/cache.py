"""Decoded cases on disk: read once from their own format, memory-mapped ever after.

Layout: `<folder>/<two digits>/<key>/{image.npy, labels.npy, case.json}`. The key comes from what a case is read from
(see `case_key`), so a changed file gets a new entry; a folder appears under its final name only when it is complete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from limnet.datasets.clips import Source
from limnet.datasets.decoding import decode_case, source_of
from limnet.datasets.labelled import LabelledCase
from limnet.errors import FileFormatError, InputError, LimnetError, SaveError
from limnet.volume_io.atomic import save_error

VERSION = 1  # of the layout and of the decoding
_STALE_SECONDS = 24 * 3600.0


def default_cache() -> Path:
    """Where decoded cases go unless told otherwise: $LIMNET_CACHE, or `limnet/cases` in the user's cache folder."""
    if named := os.environ.get("LIMNET_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limnet" / "cases"


def case_key(case: LabelledCase) -> str:
    """Name of a case's entry: a hash of its name, its two functions, their arguments, and size and time of their files.

    Raises:
        InputError: a callable that is no `functools.partial` of a module-level function.
    """
    parts = [VERSION, case.name, case.modality, case.window, *map(_identity, (case.read_image, case.read_labels))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class CaseCache:
    """A folder of decoded cases.

    Args:
        folder: made if needed; None for `default_cache()`.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = default_cache() if folder is None else Path(folder)

    def path(self, case: LabelledCase) -> Path:
        """Where the entry of a case is, or would be."""
        key = case_key(case)
        return self.folder / key[:2] / key

    def has(self, case: LabelledCase) -> bool:
        """Whether the entry is there and whole."""
        return _whole(self.path(case)) is not None

    def build(self, cases: Sequence[LabelledCase], progress: bool = True) -> int:
        """Decode the cases that are not there yet, one at a time; an interrupted build goes on where it stopped.

        Args:
            cases: any number.
            progress: show a progress bar if there is something to do.

        Returns:
            How many were decoded.

        Raises:
            FileFormatError: cases that could not be read, all of them named; the others are in the cache.
            SaveError: the disk is full or not writable.
        """
        from rich.progress import track

        missing = [case for case in cases if not self.has(case)]
        if not missing:
            return 0
        failed = []
        for case in track(missing, description="decoding cases", disable=not progress, transient=True):
            try:
                self.add(case)
            except SaveError:
                raise
            except (LimnetError, OSError, ValueError, EOFError) as error:
                failed.append(f"{case.name}: {error}")
        if failed:
            more = f"\n  and {len(failed) - 5} more" if len(failed) > 5 else ""
            raise FileFormatError(
                f"{len(failed)} of {len(cases)} cases could not be read; mend or remove them and start again "
                "(the others stay in the cache):\n  " + "\n  ".join(failed[:5]) + more
            )
        return len(missing)

    def add(self, case: LabelledCase) -> Path:
        """Decode one case and put it in place; whatever was there is replaced."""
        target = self.path(case)
        image, labels, about = decode_case(case)
        temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target.parent)
            temporary.mkdir()
            np.save(temporary / "image.npy", image)
            np.save(temporary / "labels.npy", labels)
            sizes = {name: (temporary / name).stat().st_size for name in ("image.npy", "labels.npy")}
            (temporary / "case.json").write_text(json.dumps({"version": VERSION, "sizes": sizes, **about}))
            if target.exists() and _whole(target) is None:
                shutil.rmtree(target)
            with contextlib.suppress(FileExistsError):
                _move(temporary, target)
        except OSError as error:
            raise save_error(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def open(self, case: LabelledCase, weight: float = 1.0) -> Source:
        """The case as a memory-mapped source of clips.

        Raises:
            FileFormatError: it is not in the cache, or damaged.
        """
        folder = self.path(case)
        about = _whole(folder)
        if about is None:
            raise FileFormatError(f"{case.name} is not in the cache {self.folder}, or damaged there; build it again")
        image, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "labels"))
        return replace(source_of(image, labels, about, weight), includes=case.includes)


def _whole(folder: Path) -> dict[str, Any] | None:
    """What case.json says, if the entry is complete."""
    try:
        about = json.loads((folder / "case.json").read_text())
        sizes = about["sizes"]
        right = about["version"] == VERSION and all((folder / n).stat().st_size == s for n, s in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return about if right else None


def _move(temporary: Path, target: Path) -> None:
    """Rename a folder; another process may have put the same one there in the meantime."""
    try:
        os.rename(temporary, target)
    except OSError as error:
        if _whole(target) is None:
            raise
        raise FileExistsError(str(target)) from error


def _sweep(folder: Path) -> None:
    """Remove what builds that were killed a day ago or more have left."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _identity(function: Callable[[], Any]) -> list[Any]:
    if not isinstance(function, functools.partial) or "<" in getattr(function.func, "__qualname__", "<"):
        raise InputError(
            f"{function!r} cannot be recognised again: cases are read by functools.partial(function of a module, path)"
        )
    name = f"{function.func.__module__}.{function.func.__qualname__}"
    return [name, *(_plain(value) for value in function.args), _plain(function.keywords)]


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return _file(Path(value))
    if isinstance(value, functools.partial):
        return _identity(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return [[_plain(k), _plain(v)] for k, v in sorted(value.items(), key=lambda item: str(item[0]))]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return repr(value)


def _file(path: Path) -> list[Any]:
    """Path with size and time of the file, or of everything in the folder."""
    try:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            return [str(path.resolve()), [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in inside]]
        about = path.stat()
    except OSError:
        return [str(path), "missing"]
    return [str(path.resolve()), about.st_size, about.st_mtime_ns]
