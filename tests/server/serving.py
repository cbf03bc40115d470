"""A server of the protocols in tests: small networks, on a real port or as an app."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import uvicorn

from limnet.server.serve_app import Serve, ServeOptions
from limnet.server.workspace import Workspace
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import small_segmenter

SHAPE = (14, 32, 40)
CENTRE = (7, 16, 20)


def image() -> np.ndarray:
    return phantom(SHAPE)


@contextlib.contextmanager
def served(tmp_path: Any, **options: Any) -> Iterator[tuple[str, Serve]]:
    """A server on a free port of this machine; its address and itself."""
    with Workspace(small_segmenter(), tmp_path / "sessions") as workspace:
        serve = Serve(workspace, ServeOptions(**options))
        made = socket.socket()
        made.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(serve.app, log_level="error", timeout_graceful_shutdown=1, lifespan="on")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [made]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{made.getsockname()[1]}", serve
        finally:
            server.should_exit = True
            thread.join(30)
