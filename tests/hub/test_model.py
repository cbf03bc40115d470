from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limnet.errors import InputError, MissingFileError, ModelFormatError, SaveError
from limnet.hub import model as model_file
from limnet.hub.model import load_model, save_model
from tests.helpers import standins

SETTINGS = {"tau": 0.5, "scope": "interval"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    standins.register(monkeypatch)
    save_model(tmp_path / "models" / "mini", **standins.build(), settings=SETTINGS, card="# first\n")
    return tmp_path / "models" / "mini"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_roundtrip(folder: Path) -> None:
    found = load_model(folder)
    assert found.settings == SETTINGS
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
