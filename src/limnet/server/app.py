"""The app behind `limnet view`: the page, its files, and a line to every open case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from limnet._version import __version__
from limnet.errors import Cancelled, InputError, LimnetError, MissingFileError
from limnet.server.guards import Guard
from limnet.server.save import FORMATS, save, saved_bytes
from limnet.server.screen import Message, Screen
from limnet.server.surface import surface
from limnet.server.view_server import ViewServer, bearer

_BACKLOG = 4000  # messages a page may be behind before it is told to load anew: some minutes of rounds
_WATCH_SECONDS = 0.3  # how often the case of a notebook is looked at
_COOKIE_DAYS = 30
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_CLOSED, _REFUSED, _BEHIND = 4404, 4401, 4408  # codes of closed WebSockets that the page understands


def view_app(server: ViewServer) -> ASGIApp:
    """The ASGI app of `limnet view`."""
    routes = [
        Route("/", _page),
        Route("/page/{name}", _page_file),
        Route("/api/login", _login, methods=["POST"]),
        Route("/api/hello", _hello),
        Route("/api/files", _files),
        Route("/api/recent", _recent),
        Route("/api/open", _open, methods=["POST"]),
        Route("/api/demo", _demo, methods=["POST"]),
        Route("/api/resume", _resume, methods=["POST"]),
        Route("/api/forget", _forget, methods=["POST"]),
        Route("/api/cases/{key}", _about),
        Route("/api/cases/{key}/volume", _voxels),
        Route("/api/cases/{key}/labels", _labels),
        Route("/api/cases/{key}/surface/{label:int}", _surface),
        Route("/api/cases/{key}/save", _save, methods=["POST"]),
        Route("/api/cases/{key}/download", _download),
        WebSocketRoute("/api/cases/{key}/channel", _channel),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={LimnetError: _limnet_error, HTTPException: _http_error, OSError: _system_error},
        lifespan=_lifespan,
    )
    app.state.server = server
    return Guard(app)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    watching = asyncio.create_task(_watch(app.state.server))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(server: ViewServer) -> None:
    """Look after cases that somebody else changes, and let go of closed ones."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        open_now = server.workspace.cases
        for key, screen in list(server.screens.items()):
            if key not in open_now:
                del server.screens[key]
            elif screen.watched and screen.opened.path is None:
                await run_in_threadpool(screen.catch_up)


# the page


async def _page(request: Request) -> Response:
    page = _static("index.html")
    if not request.app.state.server.framed:
        page.headers["X-Frame-Options"] = "DENY"
    return page


async def _page_file(request: Request) -> Response:
    return _static(request.path_params["name"])


def _static(name: str) -> Response:
    file = resources.files("limnet.server") / "page" / name
    kind = _TYPES.get(Path(name).suffix)
    if kind is None or Path(name).name != name or not file.is_file():
        raise HTTPException(404, "there is no such page")
    return Response(file.read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})


# who may come in


async def _login(request: Request) -> Response:
    server: ViewServer = request.app.state.server
    if not server.spend_token(bearer(request)):
        raise HTTPException(401, "this address was used already or is an old one")
    answer = JSONResponse({"key": server.key} if server.framed else {})
    answer.set_cookie(
        server.cookie(request), server.key, max_age=_COOKIE_DAYS * 86400, httponly=True, samesite="strict", path="/"
    )
    return answer


def _known(request: HTTPConnection) -> ViewServer:
    server: ViewServer = request.app.state.server
    if not server.knows(request):
        raise HTTPException(401, "open the address that `limnet view` printed when it started")
    return server


# files and cases


async def _hello(request: Request) -> Response:
    server = _known(request)
    return JSONResponse(
        {
            "version": __version__,
            "folder": server.folder.root.name or str(server.folder.root),
            "start": server.start,
            "framed": server.framed,
            "formats": FORMATS,
        }
    )


async def _files(request: Request) -> Response:
    server = _known(request)
    return JSONResponse(await run_in_threadpool(server.folder.listing, request.query_params.get("path", "")))


async def _recent(request: Request) -> Response:
    server = _known(request)
    found = await run_in_threadpool(server.workspace.recent)
    open_now = {opened.path.name for opened in server.workspace.cases.values() if opened.path is not None}
    entries = [
        {
            "name": r.name,
            "title": r.title,
            "missing": r.missing,
            "shape": list(r.shape),
            "objects": list(r.objects),
            "steps": r.steps,
            "changed": r.changed,
            "open": r.name in open_now,
        }
        for r in found
        if r.steps or r.name in open_now
    ]
    return JSONResponse({"sessions": entries})


async def _open(request: Request) -> Response:
    server = _known(request)
    body = await _json(request)
    path = server.folder.inside(_text(body, "path"))
    index, series, gaps = body.get("index"), body.get("series"), body.get("gaps", "refuse")
    if path.name.endswith(".limnet"):
        return JSONResponse(await run_in_threadpool(server.open, lambda: server.workspace.resume(path)))
    try:
        return JSONResponse(await run_in_threadpool(server.open_volume, path, index, series, gaps))
    except InputError as error:  # readers name the option that chooses among several volumes; the page then asks for it
        option = re.search(r"\b(index|series|gaps)=", str(error))
        return JSONResponse({"error": str(error), "choose": option and option.group(1)}, 400)


async def _demo(request: Request) -> Response:
    server = _known(request)
    from limnet.simulation.demo import fetch_ct

    files = await run_in_threadpool(fetch_ct)
    return JSONResponse(await run_in_threadpool(server.open_volume, files.image))


async def _resume(request: Request) -> Response:
    server = _known(request)
    name = _text(await _json(request), "name")
    return JSONResponse(await run_in_threadpool(server.resume, name))


async def _forget(request: Request) -> Response:
    server = _known(request)
    name = _text(await _json(request), "name")
    if Path(name).name != name or not name.endswith(".limnet"):
        raise InputError("there is no such session")

    def forget() -> None:
        path = server.workspace.folder / name
        for opened in server.workspace.cases.values():
            if opened.path == path:
                server.workspace.close_case(opened.key, forget=True)
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)

    await run_in_threadpool(forget)
    return JSONResponse({})


def _screen(request: HTTPConnection) -> Screen:
    server = _known(request)
    return server.screen(server.workspace.get(request.path_params["key"]))


async def _about(request: Request) -> Response:
    screen = _screen(request)
    about = await run_in_threadpool(screen.describe)
    notices = request.app.state.server.notices.pop(screen.opened.key, [])
    return JSONResponse({**about, "notices": notices})


async def _voxels(request: Request) -> Response:
    screen = _screen(request)
    headers = {"Content-Length": str(screen.display.bytes_total)}
    return StreamingResponse(
        iterate_in_threadpool(screen.display.pieces()), media_type="application/octet-stream", headers=headers
    )


async def _labels(request: Request) -> Response:
    screen = _screen(request)
    return StreamingResponse(iterate_in_threadpool(screen.labels()), media_type="application/octet-stream")


async def _surface(request: Request) -> Response:
    screen = _screen(request)
    return Response(
        await run_in_threadpool(_surface_bytes, screen, request.path_params["label"]),
        media_type="application/octet-stream",
    )


def _surface_bytes(screen: Screen, label: int) -> bytes:
    """Counts of vertices and triangles (uint32), vertices in mm LPS (float32), triangles (uint32), little-endian."""
    mask, corner = screen.mask_of(label)
    vertices, triangles, _ = surface(mask)
    affine = screen.case.volume.affine_in("LPS")
    steps = affine[:3, :3][:, ::-1]  # columns in array order
    if np.linalg.det(steps) < 0:
        triangles = triangles[:, ::-1]
    world = (vertices + np.array(corner, np.float32)) @ steps.T + affine[:3, 3]
    counts = np.array([len(vertices), len(triangles)], "<u4")
    return counts.tobytes() + world.astype("<f4").tobytes() + triangles.astype("<u4").tobytes()


async def _save(request: Request) -> Response:
    screen = _screen(request)
    body = await _json(request)
    server: ViewServer = request.app.state.server
    path = server.folder.inside(_text(body, "path"), new=True)
    what, name = _text(body, "what"), body.get("object")
    if not body.get("overwrite") and (path.exists() and what != "objects"):
        return JSONResponse({"error": f"{path.name} is there already", "exists": True}, 409)
    written = await run_in_threadpool(save, screen.case, path, what, name, bool(body.get("overwrite")))
    return JSONResponse({"written": [server.folder.relative(p) for p in written]})


async def _download(request: Request) -> Response:
    screen = _screen(request)
    query = request.query_params
    data, name = await run_in_threadpool(
        saved_bytes,
        screen.case,
        screen.opened.title,
        query.get("what", ""),
        query.get("suffix", ""),
        query.get("object"),
    )
    ascii_name = "".join(c if c.isascii() and c not in '"\\\r\n' else "_" for c in name)
    headers = {"Content-Disposition": f'attachment; filename="{ascii_name}"'}
    return Response(data, media_type="application/octet-stream", headers=headers)


# the line to a case


async def _channel(socket: WebSocket) -> None:
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol="limnet" if "limnet" in offered else None)
    server: ViewServer = socket.app.state.server
    if not server.knows(socket):
        await socket.close(_REFUSED)
        return
    opened = server.workspace.cases.get(socket.path_params["key"])
    if opened is None:
        await socket.close(_CLOSED)
        return
    screen = server.screen(opened)
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Message | None] = asyncio.Queue()

    def put(message: Message | None) -> None:
        if queue.qsize() < _BACKLOG:
            queue.put_nowait(message)
        else:
            sending.cancel()

    def listener(message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the server ended meanwhile
            loop.call_soon_threadsafe(put, message)

    answers: set[asyncio.Task[None]] = set()
    sending = asyncio.create_task(_send_all(socket, queue))
    end = await run_in_threadpool(screen.listen, listener)
    try:
        while True:
            text = await socket.receive_text()
            task = asyncio.create_task(_answer(screen, text, put))
            answers.add(task)
            task.add_done_callback(answers.discard)
    except (WebSocketDisconnect, KeyError, RuntimeError):
        pass
    finally:
        end()
        sending.cancel()
        for task in answers:
            task.cancel()


async def _send_all(socket: WebSocket, queue: asyncio.Queue[Message | None]) -> None:
    try:
        while True:
            message = await queue.get()
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            elif message is not None:
                await socket.send_text(message)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await socket.close(_BEHIND)
        raise
    except (WebSocketDisconnect, RuntimeError):
        pass


async def _answer(screen: Screen, text: str, put: Callable[[Message | None], None]) -> None:
    """Do what a page asks for and answer with the same id."""
    number: Any = None
    try:
        command = json.loads(text)
        if not isinstance(command, dict):
            raise InputError("a command is a JSON object")
        number = command.get("id")
        answer = await run_in_threadpool(screen.handle, command)
        result = await asyncio.wrap_future(answer) if isinstance(answer, Future) else answer
        put(json.dumps({**(result if isinstance(result, dict) else {}), "id": number}))
    except Cancelled:
        put(json.dumps({"id": number, "cancelled": True}))
    except (LimnetError, ValueError) as error:
        put(json.dumps({"id": number, "error": _words(error)}))
    except Exception as error:  # the workspace has logged it; the person needs to know
        put(
            json.dumps({"id": number, "error": f"something went wrong inside limnet ({type(error).__name__}: {error})"})
        )


# errors as text


async def _limnet_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": _words(error)}, 404 if isinstance(error, MissingFileError) else 400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _system_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _words(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "the command is no JSON: reload the page"
    return str(error) or type(error).__name__


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise InputError("the request is no JSON: reload the page") from error
    if not isinstance(body, dict):
        raise InputError("the request is no JSON object: reload the page")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > 4096 or "\0" in value:
        raise InputError(f"{name} is a text")
    return value
