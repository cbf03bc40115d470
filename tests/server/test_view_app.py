"""What the server of `limnet view` lets in and gives out, without a browser."""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from limnet.errors import InputError, MissingFileError
from limnet.image.volume import Volume
from limnet.server.files import Folder
from limnet.server.view_server import slice_axis
from tests.helpers.view_server import BALL, SHAPE, phantom, serving, write_phantom


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """(server, client that has logged in, folder, address)."""
    root = tmp_path_factory.mktemp("volumes")
    write_phantom(root / "ct.nii.gz")
    sessions = tmp_path_factory.mktemp("sessions")
    with serving(root, sessions) as (server, address), httpx.Client(base_url=address) as client:
        client.post("/api/login", headers={"Authorization": f"Bearer {server.token}"}).raise_for_status()
        yield server, client, root, address


@pytest.fixture
def key(world: Any) -> Iterator[str]:
    key = str(world[1].post("/api/open", json={"path": "ct.nii.gz"}).raise_for_status().json()["key"])
    yield key
    world[0].workspace.close_case(key, forget=True)


def channel(world: Any, key: str, **options: Any) -> Any:
    _, client, _, address = world
    options.setdefault("additional_headers", {"Cookie": "; ".join(f"{n}={v}" for n, v in client.cookies.items())})
    return connect(f"{address.replace('http', 'ws')}/api/cases/{key}/channel", subprotocols=["limnet"], **options)


def answer(socket: Any, **command: Any) -> dict[str, Any]:
    """The answer to a command, other messages passed over."""
    socket.send(json.dumps({"id": 7, **command}))
    while True:
        message = socket.recv(timeout=20)
        if isinstance(message, str) and json.loads(message).get("id") == 7:
            return dict(json.loads(message))


def test_the_token_is_good_once_and_the_cookie_strict(tmp_path):
    with serving(tmp_path, tmp_path / "sessions") as (server, address):
        token = server.token
        assert httpx.get(f"{address}/").status_code == 200  # the page itself holds no secret
        assert httpx.get(f"{address}/api/hello").status_code == 401
        assert httpx.post(f"{address}/api/login", headers={"Authorization": "Bearer wrong"}).status_code == 401
        first = httpx.post(f"{address}/api/login", headers={"Authorization": f"Bearer {token}"})
        assert first.json() == {}
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert httpx.post(f"{address}/api/login", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert httpx.get(f"{address}/api/hello", cookies=first.cookies).status_code == 200
        secret = tmp_path / "sessions" / "key"
        assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    with serving(tmp_path, tmp_path / "sessions") as (_, address):  # pages go on after the server was started again
        port = address.rpartition(":")[2]
        again = {f"limnet_{port}": next(iter(first.cookies.values()))}
        assert httpx.get(f"{address}/api/hello", cookies=again).status_code == 200


def test_everything_but_page_and_login_needs_the_key(world, key):
    _, client, _, address = world
    paths = ["hello", "files", "recent", *(f"cases/{key}{p}" for p in ("", "/volume", "/labels", "/surface/1"))]
    for path in paths:
        assert httpx.get(f"{address}/api/{path}").status_code == 401, path
    for path in ("open", "demo", "resume", "forget", f"cases/{key}/save"):
        assert httpx.post(f"{address}/api/{path}", json={}).status_code == 401, path
    with channel(world, key, additional_headers={}) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=5)
    assert closed.value.rcvd.code == 4401
    assert client.get("/api/hello", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api/hello", headers={"Origin": "http://evil.example"}).status_code == 403
    for name in ("../app.py", "..%2Fapp.py", "nothing.js", "style.css%00"):
        assert client.get(f"/page/{name}").status_code == 404


def test_voxels_and_labels(world, key):
    _, client, _, _ = world
    about = client.get(f"/api/cases/{key}").json()
    assert about["shape"] == list(SHAPE)
    data = client.get(f"/api/cases/{key}/volume")
    assert int(data.headers["content-length"]) == len(data.content) == about["bytes"]
    np.testing.assert_array_equal(np.frombuffer(data.content, "<i2").reshape(SHAPE), phantom())
    with channel(world, key) as socket:
        assert json.loads(socket.recv(timeout=5))["type"] == "state"
        click = {"type": "click", "point": list(BALL), "positive": True}
        assert "error" not in answer(socket, do="prompt", object="liver", prompt=click)
    labels = zlib.decompress(client.get(f"/api/cases/{key}/labels").content)
    np.testing.assert_array_equal(np.frombuffer(labels, np.uint8).reshape(SHAPE), phantom() >= 100)
    mesh = client.get(f"/api/cases/{key}/surface/1").content
    vertices, triangles = np.frombuffer(mesh, "<u4", 2)
    assert len(mesh) == 8 + 12 * (int(vertices) + int(triangles))
    places = np.frombuffer(mesh, "<f4", int(vertices) * 3, 8).reshape(-1, 3)
    (z0, _, _), (z1, y1, x1) = (f(np.argwhere(phantom() >= 100), axis=0) for f in (np.min, np.max))
    # the file is RAS with 1 x 1 x 3 mm, the screen takes LPS; smoothing takes a little off
    np.testing.assert_allclose(places.min(0), (-x1 - 0.5, -y1 - 0.5, 3 * z0 - 1.5), atol=1.2)
    np.testing.assert_allclose(places.max(0)[2], 3 * z1 + 1.5, atol=1.2)
    assert client.get(f"/api/cases/{key}/surface/9").status_code == 400


BAD_COMMANDS: list[dict[str, Any]] = [
    {"do": "nonsense"},
    {"do": ["prompt"]},
    {},
    {"do": "prompt", "object": "", "prompt": {"type": "click", "point": [1, 1, 1]}},
    {"do": "prompt", "object": "x" * 101, "prompt": {"type": "click", "point": [1, 1, 1]}},
    {"do": "prompt", "object": "a", "prompt": {"type": "click", "point": [1, 1, 99]}},
    {"do": "prompt", "object": "a", "prompt": {"type": "click", "point": [1, 1, None]}},
    {"do": "prompt", "object": "a", "prompt": "click"},
    {"do": "prompt", "object": "a", "prompt": {"type": "mask", "mask": {"shape": [1e9], "runs": [-1]}, "index": 0}},
    {"do": "step", "steps": 0},
    {"do": "step", "steps": -1},
    {"do": "step", "steps": 10**9},
    {"do": "accept", "object": "nobody", "index": 1},
    {"do": "edit", "action": "format", "object": "a"},
    {"do": "edit", "action": "color", "object": "a", "color": "red"},
    {"do": "suggest", "object": "a", "skip": "all"},
    {"do": "alternative", "object": "a", "by": 3},
]


def test_bad_commands_are_answered_in_words_and_change_nothing(world, key):
    with channel(world, key) as socket:
        for command in BAD_COMMANDS:
            said = answer(socket, **command)["error"]
            assert len(said) > 10, command
            assert "Traceback" not in said
            assert answer(socket, do="cancel") == {"id": 7, "cancelled": False}
            assert world[0].workspace.get(key).case.objects in ({}, {"a": 1})
        for text in ("", "[]", "{", "nul", '"x"'):  # no command at all
            socket.send(text)
            while not (isinstance(told := socket.recv(timeout=5), str) and "error" in json.loads(told)):
                pass
        assert answer(socket, do="cancel")["cancelled"] is False


def test_paths_stay_in_the_folder(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.nii.gz").write_bytes(b"x")
    (root / "away").symlink_to(tmp_path)
    (root / "a.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    folder = Folder(root)
    absolute = str(tmp_path / "secret.nii.gz")
    for path in ("..", "../secret.nii.gz", "away/secret.nii.gz", "a.nii.gz", absolute, "sub/../.."):
        with pytest.raises(InputError, match="outside"):
            folder.inside(path)
        with pytest.raises(InputError, match="outside"):
            folder.inside(path, new=True)
    with pytest.raises(MissingFileError):
        folder.inside("nothing.nii.gz")
    with pytest.raises(MissingFileError):
        folder.inside("no/such/folder/mask.nii.gz", new=True)
    assert folder.inside("sub/mask.nii.gz", new=True) == (root / "sub/mask.nii.gz").resolve()
    assert [e["name"] for e in folder.listing()["entries"]] == ["sub"]


def test_listing_tells_series_volumes_and_sessions_apart(tmp_path):
    for name in ("b.nii", "A.NRRD", "c.limnet", "notes.txt", ".hidden.nii"):
        (tmp_path / name).write_bytes(b"")
    for folder, names in {"dicom": ["IM001"], "film": ["1.png", "2.png"], "plain": ["x.nii"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"\0" * 128 + b"DICM")
    kinds = {e["name"]: e["kind"] for e in Folder(tmp_path).listing()["entries"]}
    files = {"A.NRRD": "volume", "b.nii": "volume", "c.limnet": "session"}
    assert kinds == {"dicom": "series", "film": "series", "plain": "folder", **files}


def test_saving_over_http(world, key):
    _, client, root, _ = world
    case = f"/api/cases/{key}"
    assert client.post(f"{case}/save", json={"path": "m.nii.gz", "what": "labels"}).status_code == 400  # nothing marked
    with channel(world, key) as socket:
        for name, point in (("liver", BALL), ("right kidney", (1, 1, 1))):
            answer(socket, do="prompt", object=name, prompt={"type": "click", "point": list(point), "positive": True})
    saved = client.post(f"{case}/save", json={"path": "m.nrrd", "what": "objects"}).raise_for_status().json()["written"]
    assert saved == ["m_liver.nrrd", "m_right_kidney.nrrd"]
    assert client.post(f"{case}/save", json={"path": "s.limnet", "what": "session"}).status_code == 200
    for path, what in (("m.nrrd", "objects"), ("s.limnet", "session")):
        again = client.post(f"{case}/save", json={"path": path, "what": what})
        assert (again.status_code, "there already" in again.json()["error"]) == (409, True)
        assert client.post(f"{case}/save", json={"path": path, "what": what, "overwrite": True}).status_code == 200
    with channel(world, key) as socket:
        answer(socket, do="edit", action="rename", object="liver", to="right_kidney")
    alike = client.post(f"{case}/save", json={"path": "n.nrrd", "what": "objects"})
    assert (alike.status_code, "one file" in alike.json()["error"]) == (400, True)
    with channel(world, key) as socket:
        answer(socket, do="edit", action="rename", object="right_kidney", to="liver")
    before = (root / "ct.nii.gz").read_bytes()
    for path in ("../m.nii.gz", "m.txt", "ct.nii.gz/x.nii.gz", "\0.nii.gz", "ct.nii.gz"):
        body = {"path": path, "what": "labels", "overwrite": True}
        assert client.post(f"{case}/save", json=body).status_code in (400, 404), path
    assert (root / "ct.nii.gz").read_bytes() == before
    file = client.get(f"{case}/download", params={"what": "object", "object": "liver", "suffix": ".nii.gz"})
    assert file.headers["content-disposition"] == 'attachment; filename="ct_liver.nii.gz"'
    (root / "down.nii.gz").write_bytes(file.content)
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(root / "down.nii.gz").dataobj).transpose(2, 1, 0), phantom() >= 100
    )
    assert client.get(f"{case}/download", params={"what": "labels", "suffix": ".exe"}).status_code == 400
    assert [s["objects"] for s in client.get("/api/recent").json()["sessions"]] == [["liver", "right kidney"]]


def test_a_session_in_the_folder_is_opened_as_a_copy(world, key):
    """Steps and colours after that go into the session's own file, as with a volume; what was saved stays as it was."""
    server, client, root, _ = world
    with channel(world, key) as socket:
        answer(socket, do="prompt", object="liver", prompt={"type": "click", "point": list(BALL), "positive": True})
    body = {"path": "kept.limnet", "what": "session", "overwrite": True}
    client.post(f"/api/cases/{key}/save", json=body).raise_for_status()
    (root / "kept.json").write_text("of somebody else")
    before = (root / "kept.limnet").read_bytes()
    made = server.open_file(root / "kept.limnet")  # as `limnet view kept.limnet`, and the page by the next line
    assert client.post("/api/open", json={"path": "kept.limnet"}).raise_for_status().json()["key"] != made["key"]
    assert made["key"] != key
    assert client.post("/api/resume", json={"name": made["name"]}).raise_for_status().json() == made  # as the page does
    with channel(world, made["key"]) as socket:
        answer(socket, do="edit", action="color", object="liver", color="#123456")
        answer(socket, do="prompt", object="liver", prompt={"type": "click", "point": [1, 1, 1], "positive": True})
    server.workspace.close_case(made["key"])
    assert (root / "kept.limnet").read_bytes() == before
    assert (root / "kept.json").read_text() == "of somebody else"
    again = client.post("/api/resume", json={"name": made["name"]}).raise_for_status().json()
    assert len(server.workspace.get(again["key"]).case.object("liver").rounds) == 2
    server.workspace.close_case(again["key"], forget=True)


def test_the_demo_ct_is_opened_or_its_absence_explained(world, monkeypatch):
    from limnet.simulation import demo

    _, client, root, _ = world
    image = root / "ct.nii.gz"
    monkeypatch.setattr(demo, "fetch_ct", lambda: demo.DemoFiles(image, image, {}, "CT", "here"))
    key = client.post("/api/demo", json={}).json()["key"]
    world[0].workspace.close_case(key, forget=True)

    def offline() -> demo.DemoFiles:
        raise demo.FetchError("pip did not fetch it: no network")

    monkeypatch.setattr(demo, "fetch_ct", offline)
    refused = client.post("/api/demo", json={})
    assert (refused.status_code, refused.json()) == (400, {"error": "pip did not fetch it: no network"})


def test_colours_outlive_the_server(tmp_path):
    write_phantom(tmp_path / "ct.nii.gz")
    with serving(tmp_path, tmp_path / "sessions") as (server, _):
        made = server.open_file(tmp_path / "ct.nii.gz")
        screen = server.screen(server.workspace.get(made["key"]))
        server.workspace.get(made["key"]).run(lambda case, **_: case.object("liver").click(BALL))
        screen.handle({"do": "edit", "action": "color", "object": "liver", "color": "#123456"})
    with serving(tmp_path, tmp_path / "sessions") as (server, _):
        again = server.resume(made["name"])
        screen = server.screen(server.workspace.get(again["key"]))
        assert [o["color"] for o in screen.state()["objects"]] == ["#123456"]
        with pytest.raises(InputError):
            server.resume("../key")


def test_slices_are_the_thickest_or_axial():
    array = np.zeros((4, 5, 6), np.int16)
    assert slice_axis(Volume.from_array(array, spacing=(1.0, 5.0, 1.0))) == 1
    assert slice_axis(Volume.from_array(array, spacing=(1.0, 1.0, 1.0))) == 0
    sagittal = np.array([[0, 0, 1.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])
    assert slice_axis(Volume.from_array(array, affine=sagittal)) == 1  # array axis 1 runs along the patient
