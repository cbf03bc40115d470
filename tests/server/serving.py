"""A server of the protocols in tests: small networks, on a real port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from limnet.server.serve_app import Serve, ServeOptions
from limnet.server.serving import Background, listen
from limnet.server.workspace import Workspace
from tests.helpers.fake_engine import phantom
from tests.helpers.small_segmenter import small_segmenter
from tests.helpers.view_server import threshold_segmenter

SHAPE = (14, 32, 40)
CENTRE = (7, 16, 20)


def finished(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives; in a thread, for the browser of other tests keeps a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def image() -> np.ndarray:
    return phantom(SHAPE)


@contextlib.contextmanager
def served(tmp_path: Path, networks: bool = True, **options: Any) -> Iterator[tuple[str, Serve]]:
    """A server on a free port of this machine, with or without networks; its address and itself."""
    with Workspace(small_segmenter() if networks else threshold_segmenter(), tmp_path / "sessions") as workspace:
        serve = Serve(workspace, ServeOptions(**options))
        running = Background(serve.app, listen(0))
        try:
            yield f"http://127.0.0.1:{running.port}", serve
        finally:
            running.stop()
