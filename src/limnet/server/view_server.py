"""What `limnet view` holds besides its pages: who may come in, the folder, and the screens of open cases."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import HTTPConnection

from limnet.errors import InputError, LimnetError
from limnet.image.io.atomic import atomic_write
from limnet.image.volume import Gaps, Volume
from limnet.server.display import planes
from limnet.server.files import Folder
from limnet.server.open_case import OpenCase
from limnet.server.screen import Screen
from limnet.server.workspace import Workspace, private_folder


class ViewServer:
    """What the app of `limnet view` needs to know.

    Args:
        workspace: Holds the open cases.
        root: Folder whose files can be opened, and into which results are saved.
        framed: Whether the page stands in a notebook: the token stays valid there, for browsers that keep no cookies
            for frames.
        start: What to open first, if anything: name of a session or key of a case.
    """

    def __init__(self, workspace: Workspace, root: Path, *, framed: bool = False, start: str | None = None) -> None:
        self.workspace = workspace
        self.folder = Folder(root)
        self.framed = framed
        self.start = start
        self.token = secrets.token_urlsafe(32)
        self.key = _kept_key(workspace.folder)
        self.screens: dict[str, Screen] = {}
        self.notices: dict[str, list[str]] = {}
        self._opening = threading.Lock()

    # who may come in

    def spend_token(self, given: str) -> bool:
        """Whether this is the token of the address; it is good for one login, except in a notebook."""
        right = bool(self.token) and hmac.compare_digest(given.encode(), self.token.encode())
        if right and not self.framed:
            self.token = ""
        return right

    def knows(self, connection: HTTPConnection) -> bool:
        """Whether a request or WebSocket comes from a page that logged in."""
        given = [connection.cookies.get(self.cookie(connection), ""), bearer(connection)]
        if "websocket" in connection.scope["type"]:
            given += [p[4:] for p in connection.scope.get("subprotocols", []) if p.startswith("key.")]
        return any(hmac.compare_digest(g.encode(), self.key.encode()) for g in given)

    @staticmethod
    def cookie(connection: HTTPConnection) -> str:
        """Name of the cookie: browsers share cookies between the ports of a machine."""
        return f"limnet_{connection.url.port or 80}"

    # cases

    def screen(self, opened: OpenCase) -> Screen:
        """The screen of an open case."""
        found = self.screens.get(opened.key)
        if found is None:
            notes = None if opened.path is None else opened.path.with_suffix(".json")
            found = self.screens[opened.key] = Screen(opened, _read_notes(notes), _keeper(notes))
        return found

    def open(self, work: Callable[[], OpenCase]) -> dict[str, Any]:
        """Open or resume a case; warnings of readers are kept for the page."""
        with self._opening, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            opened = work()
            try:
                self.screen(opened)
            except LimnetError:
                self.workspace.close_case(opened.key, forget=True)
                raise
        told = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        self.notices.setdefault(opened.key, []).extend(told)
        return {"key": opened.key, "name": self.name_of(opened)}

    def open_file(
        self, path: Path, index: int | None = None, series: str | int | None = None, gaps: Gaps = "refuse"
    ) -> dict[str, Any]:
        """Open a volume along its thickest axis, or a session file; see `Volume.read` for the choices."""

        def work() -> OpenCase:
            if path.suffix == ".limnet":
                return self.workspace.resume(path)
            if gaps == "refuse":
                volume = self.workspace.volume(path, index, series)
            else:  # read anew, so that what is missing is told every time
                volume = Volume.read(path, index=index, series=series, gaps=gaps)
            return self.workspace.open(volume, axis=slice_axis(volume))

        return self.open(work)

    def resume(self, name: str) -> dict[str, Any]:
        """Go on with a session of the workspace's folder, or with an open case by its key."""
        opened = self.workspace.cases.get(name)
        if opened is not None:
            return {"key": opened.key, "name": self.name_of(opened)}
        path = self.session_file(name)
        return self.open(lambda: self.workspace.resume(path))

    def session_file(self, name: str) -> Path:
        """Path of a session of the workspace's folder; InputError for what cannot be one."""
        if Path(name).name != name or not name.endswith(".limnet"):
            raise InputError("this case is not open any more: open its volume, or resume it from the recent sessions")
        return self.workspace.folder / name

    @staticmethod
    def name_of(opened: OpenCase) -> str:
        """What addresses call a case: its session file, which outlives the server, or its key."""
        return opened.key if opened.path is None else opened.path.name


def slice_axis(volume: Volume) -> int:
    """Axis to segment along: the thickest slices; the axial ones where all are alike."""
    if volume.is_color:
        return 0
    spacing = np.array(volume.spacing)
    if spacing.max() > 1.25 * spacing.min():
        return int(spacing.argmax())
    return int(planes(volume)[0]["axis"])


def bearer(connection: HTTPConnection) -> str:
    """The token of an Authorization header, or an empty text."""
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _kept_key(folder: Path) -> str:
    """Key of the cookie, kept for the user alone, so that open pages go on after the server was started again."""
    place = private_folder(folder) / "key"
    with contextlib.suppress(OSError):
        kept = place.read_text(encoding="ascii").strip()
        if len(kept) >= 32:
            return kept
    key = secrets.token_urlsafe(32)
    with contextlib.suppress(OSError):  # without a file the key holds until the server ends
        _write_private(place, key)
    return key


def _read_notes(path: Path | None) -> dict[str, str]:
    """Colours chosen before; none where the file is missing or damaged."""
    if path is None:
        return {}
    try:
        colors = json.loads(path.read_text(encoding="utf-8"))["colors"]
        return {str(name): str(color) for name, color in colors.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _keeper(path: Path | None) -> Callable[[dict[str, str]], None] | None:
    if path is None:
        return None

    def keep(colors: dict[str, str]) -> None:
        text = json.dumps({"colors": colors})
        with contextlib.suppress(OSError):  # colours are not worth an error
            atomic_write(path, lambda p: _write_private(p, text))

    return keep


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
