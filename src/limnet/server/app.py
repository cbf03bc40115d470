"""The app behind `limnet view`: the page, its files, and a line to every open case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import asdict
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
from limnet.errors import Cancelled, InputError
from limnet.server.files import FORMATS, save, saved_bytes
from limnet.server.guards import Guard, error_handlers
from limnet.server.screen import Message, Screen
from limnet.server.surface import surface
from limnet.server.view_server import ViewServer, bearer
from limnet.server.workspace import in_words

_BACKLOG = 4000  # messages a page may be behind before it is told to load anew: some minutes of rounds
_WATCH_SECONDS = 0.3  # how often the case of a notebook is looked at
_COOKIE_DAYS = 30
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_BYTES = "application/octet-stream"
_CLOSED, _REFUSED, _BEHIND = 4404, 4401, 4408  # codes of closed WebSockets that the page understands
Given = dict[str, Any]
Work = Callable[[ViewServer, Given], Given | Response]


def view_app(server: ViewServer) -> ASGIApp:
    """The ASGI app of `limnet view`."""
    routes = [
        Route("/", _page),
        Route("/page/{name}", _page_file),
        Route("/api/login", _login, methods=["POST"]),
        _asked("/api/hello", _hello),
        _asked("/api/files", lambda server, query: server.folder.listing(query.get("path", ""))),
        _asked("/api/recent", _recent),
        _told("/api/open", _open),
        _told("/api/demo", _demo),
        _told("/api/resume", lambda server, body: server.resume(_text(body, "name"))),
        _told("/api/forget", _forget),
        _asked("/api/cases/{key}", _about),
        Route("/api/cases/{key}/volume", _voxels),
        Route("/api/cases/{key}/labels", _labels),
        _asked("/api/cases/{key}/surface/{label:int}", _surface),
        _told("/api/cases/{key}/save", _save),
        _asked("/api/cases/{key}/download", _download),
        WebSocketRoute("/api/cases/{key}/channel", _channel),
    ]
    handlers = {**error_handlers("error"), OSError: _system_error}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=_lifespan)
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


def _asked(path: str, work: Work) -> Route:
    """What a page that has logged in gets: `work`, done in a thread, of the server and the query."""

    async def answer(request: Request) -> Response:
        return await _done(request, work, dict(request.query_params))

    return Route(path, answer)


def _told(path: str, work: Work) -> Route:
    """What a page that has logged in sends: `work`, done in a thread, of the server and the JSON object."""

    async def answer(request: Request) -> Response:
        _known(request)
        try:
            body = await request.json()
        except ValueError as error:
            raise InputError("the request is no JSON: reload the page") from error
        if not isinstance(body, dict):
            raise InputError("the request is no JSON object: reload the page")
        return await _done(request, work, body)

    return Route(path, answer, methods=["POST"])


async def _done(request: Request, work: Work, given: dict[str, Any]) -> Response:
    server = _known(request)
    answer = await run_in_threadpool(work, server, {**given, **request.path_params})
    return answer if isinstance(answer, Response) else JSONResponse(answer)


def _hello(server: ViewServer, _: Given) -> Given:
    return {
        "version": __version__,
        "folder": server.folder.root.name or str(server.folder.root),
        "start": server.start,
        "framed": server.framed,
        "formats": FORMATS,
    }


def _recent(server: ViewServer, _: Given) -> Given:
    open_now = {opened.path.name for opened in server.workspace.cases.values() if opened.path is not None}
    entries = [{**asdict(recent), "open": recent.name in open_now} for recent in server.workspace.recent()]
    return {"sessions": [entry for entry in entries if entry["steps"] or entry["open"]]}


def _open(server: ViewServer, body: Given) -> Given | Response:
    path = server.folder.inside(_text(body, "path"))
    try:
        return server.open_file(path, body.get("index"), body.get("series"), body.get("gaps", "refuse"))
    except InputError as error:  # readers name the option that chooses among several volumes; the page then asks for it
        option = re.search(r"\b(index|series|gaps)=", str(error))
        return JSONResponse({"error": str(error), "choose": option and option.group(1)}, 400)


def _demo(server: ViewServer, _: Given) -> Given:
    from limnet.simulation.demo import fetch_ct

    return server.open_file(fetch_ct().image)


def _forget(server: ViewServer, body: Given) -> Given:
    path = server.session_file(_text(body, "name"))
    for opened in server.workspace.cases.values():
        if opened.path == path:
            server.workspace.close_case(opened.key, forget=True)
    path.unlink(missing_ok=True)
    path.with_suffix(".json").unlink(missing_ok=True)
    return {}


def _screen(server: ViewServer, given: Given) -> Screen:
    return server.screen(server.workspace.get(given["key"]))


def _about(server: ViewServer, given: Given) -> Given:
    screen = _screen(server, given)
    return {**screen.describe(), "notices": server.notices.pop(screen.opened.key, [])}


async def _voxels(request: Request) -> Response:
    display = _screen(_known(request), request.path_params).display
    headers = {"Content-Length": str(display.bytes_total)}
    return StreamingResponse(iterate_in_threadpool(display.pieces()), media_type=_BYTES, headers=headers)


async def _labels(request: Request) -> Response:
    screen = _screen(_known(request), request.path_params)
    return StreamingResponse(iterate_in_threadpool(screen.labels()), media_type=_BYTES)


def _surface(server: ViewServer, given: Given) -> Response:
    """Counts of vertices and triangles (uint32), vertices in mm LPS (float32), triangles (uint32), little-endian."""
    screen = _screen(server, given)
    mask, corner = screen.mask_of(given["label"])
    vertices, triangles, _ = surface(mask)
    affine = screen.case.volume.affine_in("LPS")
    steps = affine[:3, :3][:, ::-1]  # columns in array order
    if np.linalg.det(steps) < 0:
        triangles = triangles[:, ::-1]
    world = (vertices + np.array(corner, np.float32)) @ steps.T + affine[:3, 3]
    counts = np.array([len(vertices), len(triangles)], "<u4")
    body = counts.tobytes() + world.astype("<f4").tobytes() + triangles.astype("<u4").tobytes()
    return Response(body, media_type=_BYTES)


def _save(server: ViewServer, body: Given) -> Given:
    path = server.folder.inside(_text(body, "path"), new=True)
    case, overwrite = _screen(server, body).case, bool(body.get("overwrite"))
    written = save(case, path, _text(body, "what"), body.get("object"), overwrite)
    return {"written": [server.folder.relative(p) for p in written]}


def _download(server: ViewServer, query: Given) -> Response:
    opened = _screen(server, query).opened
    what, suffix = query.get("what", ""), query.get("suffix", "")
    data, name = saved_bytes(opened.case, opened.title, what, suffix, query.get("object"))
    ascii_name = "".join(c if c.isascii() and c not in '"\\\r\n' else "_" for c in name)
    headers = {"Content-Disposition": f'attachment; filename="{ascii_name}"'}
    return Response(data, media_type=_BYTES, headers=headers)


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
        told: Given = result if isinstance(result, dict) else {}
    except Cancelled:
        told = {"cancelled": True}
    except json.JSONDecodeError:
        told = {"error": "the command is no JSON: reload the page"}
    except Exception as error:  # the workspace has logged it; the person needs to know
        told = {"error": in_words(error)}
    put(json.dumps({**told, "id": number}))


async def _system_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _text(body: Given, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > 4096 or "\0" in value:
        raise InputError(f"{name} is a text")
    return value
