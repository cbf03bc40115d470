"""Host, origin and size are checked before anything else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from limnet.server.guards import Guard
from tests.server.serving import finished


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")


APP = Guard(
    Starlette(routes=[Route("/", echo, methods=["GET", "POST"]), WebSocketRoute("/socket", socket)]), limit=1000
)


def ask(method: str = "GET", **options: Any) -> httpx.Response:
    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(app=APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, "/", **options)

    return finished(asking())


def test_own_page_passes_with_strict_headers():
    answer = ask(headers={"Origin": "http://127.0.0.1:8000"})
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example:8000"}, 400),
        ({"Host": ""}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "[::1]:8000"}, 200),
    ],
)
def test_strangers_are_refused(headers, status):
    assert ask(headers=headers).status_code == status


def test_large_bodies_are_refused_declared_or_not():
    async def pieces():
        for _ in range(3):
            yield b"x" * 400

    assert ask("POST", content=b"x" * 1000).text == "1000"
    assert ask("POST", content=b"x" * 1001).status_code == 413
    assert ask("POST", content=pieces()).status_code == 413
    assert ask("POST", headers={"Content-Length": "-1"}).status_code == 413


@pytest.mark.parametrize(
    ("origin", "first"), [(b"http://127.0.0.1:8000", "websocket.accept"), (b"http://evil.example", "websocket.close")]
)
def test_web_sockets_are_checked_as_well(origin, first):
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/socket",
        "query_string": b"",
        "subprotocols": [],
        "headers": [(b"host", b"127.0.0.1:8000"), (b"origin", origin)],
    }
    finished(APP(scope, receive, send))
    assert sent[0]["type"] == first
