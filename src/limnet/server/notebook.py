"""The viewer in a notebook: the same page as `limnet view`, on a case that lives in the notebook."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limnet.environment import warn_of_spinning
from limnet.errors import InputTypeError

if TYPE_CHECKING:
    from limnet.case.case import Case
    from limnet.server.serving import Background
    from limnet.server.view_server import ViewServer

_running: tuple[ViewServer, Background] | None = None


class View:
    """What `limnet.view` gives: shown inline by a notebook, and an address for a browser anywhere else.

    Attributes:
        case: The case shown.
        address: Address of the page, with the token that lets a browser in.
        height: Height of the frame in pixels.
    """

    def __init__(self, case: Case, address: str, height: int) -> None:
        self.case, self.address, self.height = case, address, height

    def __repr__(self) -> str:
        return f"<limnet view of {self.case!r}: {self.address}>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.address}" width="100%" height="{self.height}" style="border:0; border-radius:8px" '
            'allow="clipboard-write; fullscreen" title="limnet"></iframe>'
        )


def view(case: Case, *, height: int = 720) -> View:
    """Show a case in a notebook and click in it there; both sides see what the other does.

    The page comes from a server in this process, on 127.0.0.1 only: the browser has to run on the same machine, or
    reach the port through a tunnel. Rounds made in the page run in a thread of their own; `case.mask` is up to date as
    soon as the page shows it. A round of the notebook appears in the page within a third of a second.

    Args:
        case: The case, from `segmenter.open(...)`.
        height: Height of the frame in pixels.

    Returns:
        An object that a notebook shows inline; its `address` opens in any browser of this machine.

    Raises:
        InputTypeError: if that is no case.
        InputError: if the volume is too large for a browser.

    Warns:
        UserWarning: if the threads of torch spin while they wait, since it was loaded before limnet.
    """
    from limnet.case.case import Case

    if not isinstance(case, Case):
        raise InputTypeError(
            f"a case is shown, got {type(case).__name__}: open one with InteractiveSegmenter.from_pretrained(...)"
            ".open(volume)"
        )
    warn_of_spinning()
    server, running = _server()
    opened = server.workspace.adopt(case)
    server.screen(opened)  # refuses what a browser cannot hold
    return View(case, f"http://127.0.0.1:{running.port}/#t={server.token}&case={opened.key}", height)


def _server() -> tuple[ViewServer, Background]:
    """The server of this process; started at first use, ended with the process."""
    global _running
    if _running is None:
        from limnet.server.app import view_app
        from limnet.server.serving import Background, listen
        from limnet.server.view_server import ViewServer
        from limnet.server.workspace import Workspace

        workspace = Workspace(_bundled_model)
        server = ViewServer(workspace, Path.cwd(), framed=True)
        running = Background(view_app(server), listen(0, 0))
        _running = server, running
        atexit.register(_end, workspace, running)
    return _running


def _bundled_model() -> Any:
    """Loads the bundled model, should somebody open a file from the page of a notebook."""
    from limnet.segmenter import InteractiveSegmenter

    return InteractiveSegmenter.from_pretrained("limnet-tiny")


def _end(workspace: Any, running: Background) -> None:
    running.stop()
    workspace.close()
