from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from limnet.errors import InputError, InputTypeError, ModelNotFoundError
from limnet.hub import model as model_file
from limnet.hub.model import list_zoo, locate


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "zoo"
    for name in ("limnet-tiny", "limnet-base"):
        (root / name).mkdir(parents=True)
        (root / name / "model_index.json").write_text("{}")
    (root / "unfinished").mkdir()
    monkeypatch.setattr(model_file, "zoo_folder", lambda: root)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return root


def test_bundled_name_wins_over_a_folder_of_that_name(zoo: Path) -> None:
    assert list_zoo() == ["limnet-base", "limnet-tiny"]
    assert locate("limnet-tiny") == zoo / "limnet-tiny"
    Path("limnet-tiny").mkdir()
    assert locate("limnet-tiny") == zoo / "limnet-tiny"
    assert locate("./limnet-tiny") == Path("limnet-tiny")
    assert locate(Path("limnet-tiny")) == Path("limnet-tiny")


def test_local_folders(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a/b").mkdir(parents=True)
    assert locate("a") == Path("a")
    assert locate("a/b") == Path("a/b")  # a folder before a repository
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert locate("~/a") == Path.cwd() / "a"
    with pytest.raises(InputError, match="Hub repositories only"):
        locate("a", revision="v1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("limnet-tinny", "Did you mean limnet-tiny"),
        ("LIMNET-BASE", "Did you mean limnet-base"),
        ("zebra", r"Bundled models: limnet-base, limnet-tiny.*folder.*org/name"),
        ("./models/mine", "looks like a path.*does not exist"),
        ("a/b/c", "looks like a path"),
        ("..\\mine", "looks like a path"),
    ],
)
def test_unknown_names(zoo: Path, name: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        locate(name)


def test_wrong_kinds(zoo: Path) -> None:
    Path("ritm.pth").write_bytes(b"x")
    with pytest.raises(ModelNotFoundError, match="limnet convert"):
        locate("ritm.pth")
    with pytest.raises(ModelNotFoundError):
        locate(Path("org/name"))  # a Path is never a repository
    for bad in (None, 3, ["x"]):
        with pytest.raises(InputTypeError, match="given as"):
            locate(bad)  # type: ignore[arg-type]
    for empty in ("", "  ", "a\0b"):
        with pytest.raises(InputError, match="no model name"):
            locate(empty)


def test_arguments_reach_the_hub_and_its_errors_are_explained(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def download(name: str, **arguments: object) -> str:
        seen.update(arguments, name=name)
        return str(zoo / "limnet-tiny")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = locate("org/name", revision="v1", token="t", cache_dir=zoo, local_files_only=True)
    assert found == zoo / "limnet-tiny"
    assert seen["name"] == "org/name"
    assert {k: seen[k] for k in ("revision", "token", "cache_dir", "local_files_only")} == {
        "revision": "v1",
        "token": "t",
        "cache_dir": zoo,
        "local_files_only": True,
    }
    assert not any("bin" in pattern or pattern == "*" for pattern in seen["allow_patterns"])

    for error, message in (
        (errors.LocalEntryNotFoundError("x"), "Check the connection"),
        (errors.HFValidationError("x"), "not a valid repository name"),
        (RuntimeError("broken pipe"), "RuntimeError: broken pipe"),
    ):

        def fails(name: str, error: Exception = error, **arguments: object) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
        with pytest.raises(ModelNotFoundError, match=message):
            locate("org/name")
