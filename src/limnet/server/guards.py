"""What every server of limnet checks before anything else: host, origin, size; and how it answers errors."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limnet.errors import LimnetError, MissingFileError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws://127.0.0.1:* ws://localhost:*; img-src 'self' data: blob:; "
        "worker-src 'self' blob:; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _TooLarge(Exception):
    pass


class Guard:
    """ASGI middleware for a server that strangers' web pages must not reach.

    A request is refused if its Host is not one of `hosts`, without port (400: a page elsewhere may have pointed its own
    name at this machine), if a browser sends it from another page (403; WebSockets as well, browsers do not check these
    themselves), or if its body has more than `limit` bytes (413, whether the length is declared or not).
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = LOOPBACK, limit: int = 1 << 20) -> None:
        self.app, self.hosts, self.limit = app, frozenset(h.lower() for h in hosts), limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(headers)
        if refusal is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            else:
                await JSONResponse({"error": refusal[1]}, refusal[0])(scope, receive, _with_headers(send))
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        await self._limited(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if _name(host) not in self.hosts:
            return 400, "this server does not answer to that host name"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host:
            return 403, "requests from other pages are refused"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.limit:
            return 413, self._too_large
        return None

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = _with_headers(send)
        taken, started, refused = 0, False, False

        async def counted() -> Message:
            nonlocal taken, refused
            message = await receive()
            taken += len(message.get("body", b""))
            if taken <= self.limit:
                return message
            if not started:
                refused = True
                await JSONResponse({"error": self._too_large}, 413)(scope, receive, answering)
            raise _TooLarge

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            if not refused:
                await answering(message)

        with contextlib.suppress(_TooLarge):
            await self.app(scope, counted, watched)

    @property
    def _too_large(self) -> str:
        return f"the body is too large: at most {self.limit} bytes are taken"


def error_handlers(name: str) -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    """Errors as JSON answers with one entry called `name`, for a Starlette app.

    Errors of the library are 400, 404 for what is not there, or their own `status`. Others are 500; what they say stays
    here, for it may be about other people's files.
    """

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return JSONResponse({name: error.detail}, error.status_code, error.headers)
        if isinstance(error, LimnetError):
            status = getattr(error, "status", 404 if isinstance(error, MissingFileError) else 400)
            return JSONResponse({name: str(error) or type(error).__name__}, status)
        return JSONResponse({name: f"something went wrong inside limnet ({type(error).__name__})"}, 500)

    return dict.fromkeys((LimnetError, HTTPException, Exception), answer)


def _name(host: str) -> str:
    """Host name of "name:port"; IPv6 addresses keep their brackets."""
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
