"""The nnInteractive protocol, spoken by its real client."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from limnet.server.protocols.nninteractive import pack_array
from limnet.server.protocols.requests import Limits
from tests.helpers.small_segmenter import blob, small_segmenter
from tests.helpers.view_server import SlowPropagator
from tests.server.serving import CENTRE, SHAPE, image, served
from tests.server.soak import soak

remote = pytest.importorskip("nnInteractive.inference.remote", reason="needs nninteractive-client")
Session = remote.nnInteractiveRemoteInferenceSession


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served"), networks=False, model="limnet-tiny") as (address, _):
        yield address


@contextlib.contextmanager
def started(url: str) -> Iterator[Any]:
    """A client that has sent its image."""
    with Session(url) as session:
        session.set_do_autozoom(True)
        session.set_image(image()[None], {"spacing": [3.0, 1.0, 1.0]})
        session.set_target_buffer(np.zeros(SHAPE, np.uint8))
        yield session


@pytest.fixture
def session(url: str) -> Iterator[Any]:
    with started(url) as session:
        yield session


def test_what_the_server_says_of_itself(session: Any) -> None:
    assert session.supported_interactions == dict.fromkeys(("points", "bbox2d", "bbox3d", "scribble", "lasso"), True)
    assert session.channel_mapping["points"] == (7, 8)
    assert session.supports_undo
    assert session.supports_initial_label
    assert "limnet-tiny" in session.license
    assert len(session.preferred_scribble_thickness) == 3
    assert session.ping()
    assert 590 < session.heartbeat() <= 600
    assert session.lease_status()["idle_timeout_seconds"] == 600
    assert session.original_image_shape == (1, *SHAPE)


def test_floats_as_napari_sends_them_and_undo(session: Any) -> None:
    buffer = session.target_buffer
    box = session.add_point_interaction([7.0, 16.4, 19.6], True)
    assert buffer[7, 16, 20] == 1
    assert set(np.unique(buffer)) <= {0, 1}
    assert buffer.sum() == buffer[tuple(slice(*side) for side in box)].sum()
    first = buffer.copy()
    session.add_point_interaction([7, 16, 20], False)
    assert buffer[7, 16, 20] == 0
    session.add_point_interaction([2, 3, 3], True)
    assert buffer[2, 3, 3] == 1
    assert session.undo()
    assert session.undo()
    assert np.array_equal(buffer, first)
    assert session.undo()
    assert not buffer.any()
    assert not session.undo()


def test_the_mask_is_that_of_the_library(tmp_path: Path) -> None:
    case = small_segmenter().open(image(), spacing=(3.0, 1.0, 1.0))
    stroke, painted = np.zeros((1, 10, 12), np.uint8), np.zeros(SHAPE, bool)
    stroke[0, 5], painted[3, 15, 14:26] = 1, True
    with served(tmp_path) as (url, _), started(url) as session:
        session.add_point_interaction(list(CENTRE), True)
        session.add_bbox_interaction([[7, 8], [4.0, 27.6], [5, 33]], True)
        session.add_scribble_interaction(stroke, True, interaction_bbox=[[3, 4], [10, 20], [14, 26]])
        case.click(CENTRE)
        case.box((7, 4, 5), (7, 27, 32))
        case.scribble(painted)
        assert np.array_equal(session.target_buffer, case.mask)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("include", [True, False])
def test_every_prompt_on_every_plane(session: Any, axis: int, include: bool) -> None:
    buffer = session.target_buffer
    session.add_point_interaction(list(CENTRE), True)
    sides = [[4, 11], [10, 22], [14, 27]]
    sides[axis] = [CENTRE[axis], CENTRE[axis] + 1]
    shape = tuple(end - first for first, end in sides)
    stroke = np.zeros(shape, np.uint8)
    stroke[tuple(0 if a == axis else slice(1, -1) if a == (axis + 1) % 3 else n // 2 for a, n in enumerate(shape))] = 1
    session.add_scribble_interaction(stroke, include, interaction_bbox=sides)
    inside = buffer[tuple(slice(*side) for side in sides)]
    assert (inside[stroke > 0] == int(include)).all()
    session.add_lasso_interaction(np.ones(shape, bool), include, interaction_bbox=sides)
    if not include:
        assert not inside.any()
    session.add_bbox_interaction(sides, include)
    if not include:
        assert not inside.any()
    whole = np.zeros(SHAPE, np.uint8)
    whole[3, 5, 5:9] = 1
    session.add_scribble_interaction(whole, True)
    assert buffer[3, 5, 5:9].all()


def test_prompts_first_and_one_prediction(session: Any) -> None:
    buffer = session.target_buffer
    assert session._predict() is None
    assert session.add_point_interaction(list(CENTRE), True, run_prediction=False) is None
    assert session.add_point_interaction([3, 16, 20], True, run_prediction=False) is None
    assert not buffer.any()
    assert session._predict() is not None
    assert buffer[CENTRE] == buffer[3, 16, 20] == 1
    session.undo()
    assert not np.delete(buffer, CENTRE[0], axis=0).any(), "the first prompt is answered on its slice alone"
    assert session._predict() is not None
    assert buffer[CENTRE] == 1
    session.reset_interactions()
    assert not session.undo()
    assert session._predict() is None


def test_starting_from_a_mask(session: Any) -> None:
    buffer, start = session.target_buffer, blob(SHAPE).astype(np.uint8)
    session.add_point_interaction([1, 2, 2], True)
    assert session.add_initial_seg_interaction(start) is None
    assert np.array_equal(buffer, start)
    session.add_point_interaction([7, 2, 2], True)
    assert buffer[7, 2, 2] == 1
    session.undo()
    assert np.array_equal(buffer, start)
    session.add_initial_seg_interaction(np.zeros(SHAPE, np.uint8))
    session.add_point_interaction(list(CENTRE), True)
    assert buffer[CENTRE] == 1


def test_another_image_and_another_type_of_mask(session: Any) -> None:
    session.add_point_interaction(list(CENTRE), True)
    other = image()[:, :20, :22].astype(np.float32)
    session.set_image(other[None], {"spacing": np.array([1.0, 1.0, 4.0])})
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        session.add_point_interaction([1, 1, 1], True)
    buffer = np.zeros(other.shape, bool)
    session.set_target_buffer(buffer)
    session.add_point_interaction([7, 16, 20], True)
    assert buffer[7, 16, 20]
    assert not session.supports_undo or session.undo()


def post(session: Any, path: str, **arguments: Any) -> httpx.Response:
    return session._http.post(path, **arguments)


def test_what_is_refused(session: Any) -> None:
    refused = [
        ("/add_point_interaction", {"coordinates": [99, 0, 0], "include_interaction": True}),
        ("/add_point_interaction", {"coordinates": [1, 2], "include_interaction": True}),
        ("/add_point_interaction", {"coordinates": [1, 2, 3], "include_interaction": 1}),
        ("/add_point_interaction", {"coordinates": [1, 2, "3"], "include_interaction": True}),
        ("/add_bbox_interaction", {"bbox_coords": [[1, 2], [3, 4]], "include_interaction": True}),
        ("/add_bbox_interaction", {"bbox_coords": [[1, 2], [3, 4], [90, 91]], "include_interaction": True}),
        ("/set_target_buffer", {"shape": [1, 2, 3], "dtype": "uint8"}),
        ("/set_target_buffer", {"shape": list(SHAPE), "dtype": "float32"}),
    ]
    for path, body in refused:
        answer = post(session, path, json=body)
        assert answer.status_code == 400, (path, body)
        assert answer.json()["detail"]
    for path in ("/set_image", "/add_scribble_interaction", "/add_initial_seg_interaction"):
        assert post(session, path, content=b"NNIA nonsense", headers={"X-Meta": "{}"}).status_code == 400
        assert post(session, path, content=b"").status_code == 400
    assert session._http.get("/predict").status_code == 405
    assert session._http.get("/nowhere").status_code == 404
    session.add_point_interaction(list(CENTRE), True)


def test_leases(url: str, session: Any) -> None:
    for headers in ({}, {"X-Lease-Token": "0" * 32}):
        answer = httpx.post(f"{url}/predict", json={}, headers=headers)
        assert answer.status_code == 410
        assert httpx.post(f"{url}/release", headers=headers).json() == {"released": True}
    other = Session(url)
    other.close()
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        Session(url).add_point_interaction([1, 2, 3], True)


def test_capacity_size_of_bodies_and_expiry(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(body=200_000, array=1_000_000, cases=1)) as (url, serve):
        first = Session(url)
        bomb = pack_array(np.zeros((1, 100, 101, 101), np.uint8))
        assert len(bomb) < 10_000
        for content in (bomb, bytes(200_001), (bytes(10_000) for _ in range(100))):
            assert post(first, "/set_image", content=content, headers={"X-Meta": "{}"}).status_code == 413
        with pytest.raises(remote.ServerAtCapacityError, match="1 images"):
            Session(url)
        assert httpx.post(f"{url}/claim").headers["retry-after"] == "10"
        first.set_image(image()[None])
        [lease] = serve.nninteractive.clients.values()
        lease.seen -= 61
        second = Session(url)
        assert not serve.workspace.cases
        with pytest.raises(remote.SessionExpiredError):
            first.set_image(image()[None])
        second.close()


def test_the_key(tmp_path: Path) -> None:
    with served(tmp_path, key="right") as (url, _):
        assert httpx.get(f"{url}/healthz").json() == {"ok": True}
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            Session(url, api_key="wrong")
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            Session(url)
        Session(url, api_key="right").close()


def test_pages_of_strangers_are_refused(url: str) -> None:
    assert httpx.post(f"{url}/claim", headers={"Host": "evil.example"}).status_code == 400
    assert httpx.post(f"{url}/claim", headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_heartbeat_is_answered_while_a_round_runs_and_hanging_up_cancels_it(tmp_path: Path) -> None:
    with served(tmp_path) as (url, serve), started(url) as session:
        [opened] = serve.workspace.cases.values()
        entered, cancelled = threading.Event(), threading.Event()
        propagate = opened.case._engine.propagator.propagate

        def slow(*arguments: Any, **options: Any) -> Any:
            watch = arguments[5]
            entered.set()
            try:
                for _ in range(500):
                    watch(0, 1)
                    time.sleep(0.02)
            except Exception:
                cancelled.set()
                raise
            return propagate(*arguments, **options)

        opened.case._engine.propagator.propagate = slow
        host, port = url.removeprefix("http://").split(":")
        body = b'{"coordinates":[7,16,20],"include_interaction":true}'
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(
                b"POST /add_point_interaction HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                + f"X-Lease-Token: {session._lease_token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert entered.wait(30)
            assert session.heartbeat() > 0
        assert cancelled.wait(30), "hanging up cancels the round"
        opened.case._engine.propagator.propagate = propagate
        assert not opened.case.rounds
        session.add_point_interaction(list(CENTRE), True)
        assert session.target_buffer[CENTRE] == 1


def test_an_upload_that_breaks_off_leaves_the_server_alive(url: str, session: Any) -> None:
    host, port = url.removeprefix("http://").split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(
                b"POST /set_image HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Meta: {}\r\nContent-Length: 1000000\r\n"
                + f"X-Lease-Token: {session._lease_token}\r\n\r\nNNIA".encode()
            )
    session.add_point_interaction(list(CENTRE), True)
    assert session.target_buffer[CENTRE] == 1


def test_eight_clients_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them are cut off in the middle; `python -m tests.server.soak` does it for minutes."""
    monkeypatch.setattr(SlowPropagator, "seconds", 0.002)  # rounds that last a while and leave the processor to others
    with served(tmp_path, networks=False) as (url, serve):
        tally = soak(url, 0, 8, least=3)
        assert tally.wrong == []
        assert tally.rounds >= 24
        assert not serve.nninteractive.clients
        assert not serve.workspace.cases
