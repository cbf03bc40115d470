from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limnet.errors import MissingFileError, ModelFormatError
from limnet.hub import verify
from limnet.hub.folder import load_component, save_component
from limnet.hub.model import load_model, save_model
from limnet.hub.verify import read_golden, verify_model, write_golden
from tests.helpers import standins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    standins.register(monkeypatch)
    made = save_model(tmp_path / "mini", **standins.build(), settings={}, half=True)
    write_golden(made)
    return made


def texts(folder: Path, bundled: bool | None = True) -> str:
    return "\n".join(map(str, verify_model(folder, bundled)))


def test_sound_model(folder: Path) -> None:
    assert verify_model(folder, bundled=True) == []
    golden = read_golden(folder)
    assert golden["propagation"]["probability"].shape == (1, 2, 64, 64)
    assert (folder / "golden.npz").stat().st_size < 200_000
    first = (folder / "golden.npz").read_bytes()
    write_golden(folder)
    assert read_golden(folder)["input"]["images"].tobytes() == golden["input"]["images"].tobytes()
    assert len(first) == (folder / "golden.npz").stat().st_size


@pytest.mark.parametrize("role", ["interaction", "propagation", "quality"])
def test_other_weights_are_noticed(folder: Path, role: str) -> None:
    network = load_component(folder / role, role)
    next(network.parameters()).add_(0.1)
    save_component(network, folder / role)
    assert [problem.part for problem in verify_model(folder)] == [role]
    assert "differs from the golden output" in texts(folder)


def test_model_without_quality(folder: Path) -> None:
    save_model(folder, **{**standins.build(), "quality": None}, settings={})
    write_golden(folder)
    assert verify_model(folder, bundled=True) == []
    model = load_model(folder)
    assert model.quality is None


def test_rules_of_the_zoo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "golden.npz").unlink()
    (folder / "README.md").write_text("# no head")
    (folder / "old.pth").write_bytes(b"x")
    monkeypatch.setattr(verify, "MAX_BYTES", 1000)
    found = verify_model(folder, bundled=True)
    assert {problem.part for problem in found} == {"golden.npz", "README.md", "old.pth", "size"}
    assert all(problem.fatal for problem in found)
    other = verify_model(folder)  # not in the zoo: of any size, nothing else is fatal
    assert {problem.part for problem in other} == {"golden.npz", "README.md", "old.pth"}
    assert not any(problem.fatal for problem in other)
    monkeypatch.setattr(verify, "zoo_folder", lambda: folder.parent)
    assert verify_model(folder) == found
    (folder / "README.md").unlink()
    assert "there is no card" in texts(folder)


def test_broken_parts(folder: Path, tmp_path: Path) -> None:
    (folder / "results.json").write_text(json.dumps({"format_version": 1, "results": [{"measure": "x", "value": 1}]}))
    assert "missing a required argument: 'command'" in texts(folder)
    (folder / "results.json").unlink()
    (folder / "golden.npz").write_bytes(b"PK\x03\x04 nonsense")
    assert "golden.npz is damaged" in texts(folder)
    with pytest.raises(ModelFormatError):
        read_golden(folder)
    np.savez(folder / "golden.npz", **{"input/images": np.array([object()])})
    assert "golden.npz is damaged" in texts(folder)
    np.savez(folder / "golden.npz", **{"input/images": np.zeros((2, 1, 8, 8), np.float32)})
    assert "cannot run on the golden inputs" in texts(folder)
    (folder / "quality" / "model.safetensors").unlink()
    assert "is missing" in texts(folder)
    (folder / "model_index.json").write_text("{")
    assert "not readable as JSON" in texts(folder)
    assert "no such folder" in texts(tmp_path / "nowhere")
    with pytest.raises(MissingFileError):
        write_golden(tmp_path / "nowhere")
