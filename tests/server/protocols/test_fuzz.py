"""Malformed requests, two thousand of them: the right status, a server that lives on, memory that stays."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest

from limnet.server.protocols.nninteractive import pack_array
from limnet.server.protocols.requests import Limits
from limnet.server.serve_app import Serve, ServeOptions
from limnet.server.workspace import Workspace
from tests.helpers.fake_engine import phantom
from tests.helpers.view_server import threshold_segmenter
from tests.server.serving import finished

SHAPE = (6, 14, 16)
EACH = 500
ODD: list[Any] = [
    None, True, -1, 0, 1e308, -1e308, 2**70, "", "x" * 5000, "\0", "../../etc/passwd", [], {}, [[]], [None] * 3,
    [1, 2], [1, 2, "3"], [1e9, 1, 1], [0.5, -0.5, 3], {"a": [1]}, [[1, 2], [3, 4], [5, 6]], [[9, 1]] * 3, "é" * 40,
]  # fmt: skip

Sent = tuple[str, str, dict[str, str], bytes]
"""Method, path with query, headers, body."""


def multipart(**parts: Any) -> tuple[str, bytes]:
    """Content type and body of a form."""
    request = httpx.Request("POST", "http://x", files=parts)
    return request.headers["content-type"], request.read()


def form(method: str, path: str, **parts: Any) -> Sent:
    kind, body = multipart(**parts)
    return method, path, {"content-type": kind}, body


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def nifti(array: np.ndarray) -> bytes:
    return gzip.compress(nibabel.Nifti1Image(array.T, np.eye(4)).to_bytes(), 1)


def mutated(sent: Sent, rng: random.Random) -> Sent:
    """A request with something wrong."""
    method, path, headers, body = sent
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH"]), path, headers, body
    if kind == 1:
        return method, path, headers, body[: rng.randrange(len(body) + 1)]
    if kind == 2 and body:
        broken = bytearray(body)
        for _ in range(rng.randrange(1, 9)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        return method, path, headers, bytes(broken)
    if kind == 3:
        return method, path, headers, rng.randbytes(rng.randrange(200))
    if kind == 4 and headers:
        name = rng.choice(sorted(headers))
        return method, path, {**headers, name: rng.choice(["", "{}", "x" * 3000, '{"a":', "[" * 2000, "null"])}, body
    if kind == 5 and "?" in path:
        head, query = path.split("?", 1)
        keep = [part for part in query.split("&") if rng.random() < 0.5]
        return method, head + "?" + "&".join([*keep, "foreground=%00", "point=1e400"]), headers, body
    if kind == 6:
        return method, path + rng.choice(["x", "/", "/..", "%2f..%2f", "\u00e9"]), headers, body
    odd = _odd_json(headers.get("X-Meta", "") or body, rng)
    if odd is None:
        return method, path, headers, body + rng.randbytes(20)
    if "X-Meta" in headers:
        return method, path, {**headers, "X-Meta": odd}, body
    return method, path, headers, odd.encode()


def _odd_json(text: str | bytes, rng: random.Random) -> str | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or not data:
        return None
    data[rng.choice(sorted(data))] = rng.choice(ODD)
    return json.dumps(data)


def nninteractive(client: httpx.AsyncClient) -> Callable[[], Any]:
    async def setup() -> list[Sent]:
        token = (await client.post("/claim")).json()["lease_token"]
        lease = {"X-Lease-Token": token}
        packed = pack_array(phantom(SHAPE)[None])
        header = bytearray(packed[: 8 + 5 + 32])
        struct.pack_into("<q", header, 8 + 5 + 8, 1 << 50)
        image = {**lease, "X-Meta": '{"image_properties":{"spacing":[1.0,1.0,1.0]}}'}
        drawn = {"include_interaction": True, "run_prediction": False, "interaction_bbox": [[3, 4], [1, 3], [1, 3]]}
        stroke = pack_array(np.ones((1, 2, 2), np.uint8))
        point = {"coordinates": [3, 4, 5], "include_interaction": True, "run_prediction": False}
        box = {"bbox_coords": [[3, 4], [1, 9], [2, 8]], "include_interaction": True, "run_prediction": False}

        def told(path: str, data: dict[str, Any]) -> Sent:
            return "POST", path, {**lease, "content-type": "application/json"}, json.dumps(data).encode()

        valid: list[Sent] = [
            ("POST", "/set_image", image, packed),
            told("/set_target_buffer", {"shape": list(SHAPE), "dtype": "uint8"}),
            told("/add_point_interaction", point),
            told("/add_bbox_interaction", box),
            ("POST", "/add_scribble_interaction", {**lease, "X-Meta": json.dumps(drawn)}, stroke),
            ("POST", "/add_lasso_interaction", {**lease, "X-Meta": json.dumps(drawn)}, stroke),
            told("/set_do_autozoom", {"do_autozoom": True}),
            told("/undo", {}),
            ("GET", "/lease_status", lease, b""),
            ("POST", "/set_image", image, bytes(header)),
        ]
        for method, path, headers, body in valid[:2]:
            assert (await client.request(method, path, headers=headers, content=body)).status_code == 200
        return valid

    return setup


def legacy(client: httpx.AsyncClient) -> Callable[[], Any]:
    async def setup() -> list[Sent]:
        mask = gzip.compress(npy(np.ones(SHAPE, np.uint8)))
        bomb = gzip.compress(bytes(30_000_000))
        json_type = {"content-type": "application/json"}
        valid = [
            form("POST", "/upload_image", file=("a.npy", npy(phantom(SHAPE)))),
            form("POST", "/upload_segment", file=("a", mask)),
            form("POST", "/upload_segment", file=("a", bomb)),
            form("POST", "/add_lasso_interaction", file=("a", mask), positive_click=(None, "True")),
            ("POST", "/add_point_interaction", json_type, b'{"voxel_coord":[99,1,1],"positive_click":true}'),
            ("POST", "/add_bbox_interaction", json_type,
             b'{"outer_point_one":[1,1,1],"outer_point_two":[99,-4,"3"],"positive_click":true}'),
        ]  # fmt: skip
        method, path, headers, body = valid[0]
        assert (await client.request(method, path, headers=headers, content=body)).status_code == 200
        return valid

    return setup


def itksnap(client: httpx.AsyncClient) -> Callable[[], Any]:
    async def setup() -> list[Sent]:
        key = (await client.get("/v2/start_session/limnet")).json()["session_id"]
        about = json.dumps({"dimensions": list(SHAPE[::-1]), "spacing": [1, 1, 1], "components_per_pixel": 1})
        values = gzip.compress(phantom(SHAPE).astype("<f4").tobytes())
        bomb = gzip.compress(bytes(30_000_000))
        parts = {"metadata": (None, about)}
        valid = [
            form("POST", f"/upload_raw/{key}?filename=a", file=("image.gz", values), **parts),
            form("POST", f"/upload_raw/{key}?filename=a", file=("image.gz", bomb), **parts),
            form("POST", f"/process_lasso_interaction/{key}?foreground=maybe", file=("image.gz", values), **parts),
            ("GET", f"/v2/process_point_interaction/{key}?point=1&point=2&point=99&foreground=true", {}, b""),
            ("GET", f"/reset_interactions/{key}", {}, b""),
            ("GET", "/v2/start_session/other", {}, b""),
        ]
        method, path, headers, body = valid[0]
        assert (await client.request(method, path, headers=headers, content=body)).status_code == 200
        return valid

    return setup


def monailabel(client: httpx.AsyncClient) -> Callable[[], Any]:
    async def setup() -> list[Sent]:
        file = nifti(phantom(SHAPE))
        sent = form("PUT", "/session/", files=("/x/ct.nii.gz", file))
        key = (await client.request(sent[0], sent[1], headers=sent[2], content=sent[3])).json()["session_id"]
        params = json.dumps({"label": "object", "foreground": [[1, 2, 99]], "background": []})
        return [
            form("PUT", "/session/", files=("ct.nii.gz", file[: len(file) // 2])),
            form("POST", f"/infer/limnet?image=&session_id={key}", params=(None, params)),
            form("POST", f"/infer/limnet-scribbles?session_id={key}", params=(None, "{}"), label=("l.nii.gz", file)),
            form("PUT", "/datastore/?image=..", file=("a.nii.gz", file)),
            form("PUT", "/datastore/label?image=none&tag=../x", params=(None, "{}"), label=("l.nii.gz", file)),
            ("GET", "/datastore/label?label=..%2f..&tag=final", {}, b""),
            ("POST", "/activelearning/none", {"content-type": "application/json"}, b'{"a":1}'),
        ]

    return setup


def resident() -> int | None:
    """Bytes of memory of this process, where the system tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return None


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(threshold_segmenter(), tmp_path_factory.mktemp("fuzz")) as workspace:
        yield workspace


@pytest.mark.parametrize("protocol", [nninteractive, legacy, itksnap, monailabel], ids=lambda f: f.__name__)
def test_malformed_requests(workspace: Workspace, protocol: Any) -> None:
    async def run() -> None:
        limits = Limits(body=2_000_000, array=1_000_000, cases=4)
        serve = Serve(workspace, ServeOptions(limits=limits))
        # what the app raises comes out here: a 500 is an error of the test
        transport = httpx.ASGITransport(app=serve.app)
        rng, allowed, worst = random.Random(7), {400, 404, 405, 410, 413, 503}, []
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1527") as client:
            valid = await protocol(client)()
            before = None
            for number in range(EACH):
                method, path, headers, body = mutated(rng.choice(valid), rng)
                try:
                    request = client.build_request(method, path, headers=headers, content=body)
                except (UnicodeError, httpx.InvalidURL, ValueError):
                    continue
                answer = await client.send(request)
                if answer.status_code not in allowed and answer.status_code >= 300:
                    worst.append((answer.status_code, method, path, body[:80]))
                if number == EACH // 4:
                    before = resident()
            after = resident()
            assert not worst
            assert (await client.get("/healthz")).json() == {"ok": True}
            assert len(workspace.cases) <= limits.cases
            if before is not None and after is not None:
                assert after - before < 60_000_000
        await serve.close()
        assert not workspace.cases

    finished(run())
