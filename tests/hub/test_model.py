from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from limnet.errors import InputError, InputTypeError, MissingFileError, ModelFormatError, ModelNotFoundError, SaveError
from limnet.hub import model as model_file
from limnet.hub.model import list_zoo, load_model, locate, read_index, save_model
from tests.helpers import standins
from tests.helpers.fake_folders import change

SETTINGS = {"tau": 0.5, "scope": "interval", "window": (-100, 300)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    standins.register(monkeypatch)
    save_model(tmp_path / "models" / "mini", **standins.build(), settings=SETTINGS, card="# first\n")
    return tmp_path / "models" / "mini"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_roundtrip(folder: Path) -> None:
    found = load_model(folder)
    assert found.settings == {**SETTINGS, "window": [-100, 300]}
    assert read_index(folder).components == {role: folder / role for role in standins.build()}
    assert found.card == "# first\n"
    for role, network in standins.build().items():
        loaded = getattr(found, role)
        assert type(loaded) is type(network)
        for key, value in network.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value)
    assert [path.name for path in folder.parent.iterdir()] == ["mini"]  # no temporary folder left


def test_saving_again_keeps_card_and_foreign_files_and_drops_the_golden_file(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "golden.npz").write_bytes(b"old")
    save_model(folder, **{**standins.build(), "quality": None}, settings={})
    assert set(content(folder)) == {
        "README.md",
        "notes.txt",
        "model_index.json",
        *(f"{role}/{name}" for role in ("interaction", "propagation") for name in ("config.json", "model.safetensors")),
    }
    assert load_model(folder).quality is None
    assert load_model(folder).card == "# first\n"
    save_model(folder, **standins.build(), settings={}, card="# second\n")
    assert load_model(folder).card == "# second\n"


def test_failed_save_leaves_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "notes.txt").write_text("mine")
    before = content(folder)

    def full(path: Path, write: object) -> None:
        raise SaveError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("limnet.hub.folder.atomic_write", full)
        with pytest.raises(SaveError, match="No space"):
            save_model(folder, **standins.build(), settings={"tau": 0.1})
    assert content(folder) == before

    real, calls = Path.rename, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if target == folder and len(calls) > 1 and self.name.endswith("-tmp"):
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(model_file.Path, "rename", second_fails)
        with pytest.raises(SaveError, match="permission denied"):
            save_model(folder, **standins.build(), settings={"tau": 0.1}, card="new")
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["mini"]


def test_targets_that_are_no_model_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveError, match="it is a file"):
        save_model(tmp_path / "file", **standins.build(), settings={})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with pytest.raises(SaveError, match=r"holds other files.*Give a new folder"):
        save_model(tmp_path / "home", **standins.build(), settings={})
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="MiniQuality is a network for 'quality', but was given as 'propagation'"):
        save_model(tmp_path / "x", **{**standins.build(), "propagation": standins.MiniQuality()}, settings={})
    for settings in ({"tau": float("nan")}, {"path": Path("x")}):
        with pytest.raises(InputError, match="plain JSON"):
            save_model(tmp_path / "x", **standins.build(), settings=settings)
    assert not (tmp_path / "x").exists()


def test_missing_component_and_swapped_components(folder: Path) -> None:
    (folder / "quality" / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"quality.model\.safetensors is missing"):
        load_model(folder)
    (folder / "interaction").rename(folder / "x")
    with pytest.raises(MissingFileError, match="interaction is not a folder"):
        load_model(folder)
    (folder / "propagation").rename(folder / "interaction")
    with pytest.raises(ModelFormatError, match="swapped"):
        load_model(folder)


TRICKS = ["..", "../other", "/etc", "interaction/../../x", "a\\b", "..\\x", "C:\\x", "C:", "", ".", ".hidden", "~"]
TRICKS += ["a\0b", "a\n"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"interaction": name}, "plain name") for name in (*TRICKS, 3, ["x"])),
        ({"format_version": 2, "limnet_version": "3.1"}, r"limnet 3\.1.*pip install --upgrade"),
        ({"format_version": "one"}, "format_version"),
        ({"_class_name": "StableDiffusion"}, "'StableDiffusion'"),
        ({"fusion": "fusion"}, "unknown entries fusion"),
        ({"settings": [1]}, "settings"),
        ({"propagation": None}, "names no folder for 'propagation'"),
    ],
)
def test_strange_index(folder: Path, changes: dict, message: str) -> None:
    change(folder / "model_index.json", **changes)
    with pytest.raises(ModelFormatError, match=message):
        read_index(folder)


def test_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
    change(folder / "model_index.json", interaction="linked")
    with pytest.raises(ModelFormatError, match="link to"):
        read_index(folder)


def test_missing_index_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        read_index(tmp_path / "nowhere")
    (folder / "interaction" / "config.json").write_text("{}")
    with pytest.raises(MissingFileError, match="give the folder above"):
        read_index(folder / "interaction")
    with pytest.raises(MissingFileError, match="no limnet model, or incomplete"):
        read_index(tmp_path)


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
