"""Upload, download and cache with the real huggingface_hub client against a stub of the Hub on the loopback address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from limnet.hub.model import save_model
from tests.helpers import standins
from tests.helpers.hub_stub import HubClient, HubStub

FILES = {
    "README.md",
    "model_index.json",
    *(f"{role}/{name}" for role in standins.build() for name in ("config.json", "model.safetensors")),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStub]:
    stub = HubStub()
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def client(hub: HubStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    child = HubClient(hub.url, tmp_path_factory.mktemp("hf"))
    yield child
    child.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        standins.register(patch)
        return save_model(tmp_path_factory.mktemp("made") / "mini", **standins.build(), settings={"tau": 0.5})


@pytest.fixture(scope="module")
def pushed(hub: HubStub, client: HubClient, folder: Path) -> str:
    (folder / "secret.txt").write_text("not part of the model")
    url = client.call("push_model", str(folder), "org/mini", commit_message="First")
    assert str(url).startswith(f"{hub.url}/org/mini/commit/"), url
    return str(url).rsplit("/", 1)[1]


def test_push_uploads_the_model_in_one_commit(hub: HubStub, pushed: str, folder: Path) -> None:
    assert set(hub.files("org/mini") or ()) == FILES
    assert all((hub.files("org/mini") or {})[name] == (folder / name).read_bytes() for name in FILES)
    assert len([path for method, path in hub.calls if method == "POST" and "/org/mini/commit/" in path]) == 1


def test_push_to_a_branch_and_make_a_card(hub: HubStub, client: HubClient, folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in FILES - {"README.md"}:
        (bare / name).parent.mkdir(exist_ok=True)
        (bare / name).write_bytes((folder / name).read_bytes())
    url = client.call("push_model", str(bare), "org/branched", revision="v1", private=True)
    assert "/commit/" in str(url), url
    assert hub.files("org/branched") == {}
    card = (hub.files("org/branched", "v1") or {})["README.md"].decode()
    assert 'from_pretrained("org/branched")' in card
    assert not (bare / "README.md").exists()
    assert client.call("load_model", client.call("locate", "org/branched", revision="v1"))["card"] == card


def test_push_refuses_what_cannot_be_loaded_or_is_not_allowed(
    hub: HubStub, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    kind, message = client.call("push_model", str(tmp_path / "x"), "org/empty")
    assert (kind, "org/empty" in hub.repos) == ("MissingFileError", False)
    kind, message = client.call("push_model", str(folder), "org/mini", token="hf_wrong")
    assert kind == "SaveError"
    assert "hf auth login" in message
    kind, message = client.call("push_model", str(folder), "org/na me")
    assert kind == "ModelNotFoundError"
    assert 'Give "org/name"' in message


def test_download_and_load(client: HubClient, pushed: str, folder: Path) -> None:
    found = client.call("locate", "org/mini")
    assert Path(found).name == pushed
    loaded = client.call("load_model", found)
    networks = standins.build()
    assert loaded["class"] == "MiniInteraction"
    assert loaded["settings"] == {"tau": 0.5}
    assert loaded["card"] == (folder / "README.md").read_text()
    assert loaded["sums"] == [
        float(next(networks[role].parameters()).detach().sum()) for role in ("interaction", "propagation")
    ]


def test_only_model_files_are_downloaded(hub: HubStub, client: HubClient, folder: Path) -> None:
    more = dict.fromkeys(("pytorch_model.bin", "interaction/run.py", "huge.nii.gz"), b"x")
    hub.create("org/extra")
    hub.commit("org/extra", "main", {**{name: (folder / name).read_bytes() for name in FILES}, **more})
    found = Path(client.call("locate", "org/extra"))
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == FILES


def test_not_found(hub: HubStub, client: HubClient, pushed: str) -> None:
    for name, arguments, message in (
        ("org/none", {}, "no such repository, or it is private"),
        ("org/mini", {"revision": "v9"}, "no revision 'v9'"),
        ("org/gated", {}, "access is gated"),
        ("org/uncached", {"local_files_only": True}, "not (fully) in the cache"),
    ):
        kind, text = client.call("locate", name, **arguments)
        assert kind == "ModelNotFoundError"
        assert message in text
    hub.create("org/other")
    hub.commit("org/other", "main", {"README.md": b"# a text model"})
    kind, text = client.call("locate", "org/other")
    assert (kind, "no limnet model" in text) == ("ModelNotFoundError", True), text


def test_cache_serves_after_the_hub_is_gone(hub: HubStub, client: HubClient, pushed: str) -> None:
    """Last in this file: it closes the stub."""
    online = client.call("locate", "org/mini")
    assert client.call("locate", "org/mini", local_files_only=True) == online
    hub.close()
    calls = len(hub.calls)
    assert client.call("locate", "org/mini") == online
    assert client.call("locate", "org/mini", revision=pushed) == online
    assert client.call("load_model", online)["settings"] == {"tau": 0.5}
    kind, message = client.call("locate", "org/never")
    assert kind == "ModelNotFoundError"
    assert "cannot be reached" in message
    kind, message = client.call("push_model", online, "org/mini")
    assert kind == "SaveError"
    assert "Check the connection" in message
    assert len(hub.calls) == calls
