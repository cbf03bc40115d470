from __future__ import annotations

import json
from pathlib import Path

import pytest

from limnet.errors import InputError, MissingFileError, ModelFormatError
from limnet.hub.model import read_index, write_index

NAMES = {"interaction": "interaction", "propagation": "propagation", "quality": "quality"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    for name in NAMES:
        (root / name).mkdir(parents=True)
    write_index(root, NAMES, {"tau": 0.5, "window": (-100, 300)})
    return root


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_roundtrip(folder: Path) -> None:
    index = read_index(folder)
    assert index.components == {role: folder / role for role in NAMES}
    assert index.settings == {"tau": 0.5, "window": [-100, 300]}
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "InteractiveSegmenter"


def test_quality_may_be_null_and_nothing_else(folder: Path) -> None:
    write_index(folder, {**NAMES, "quality": None}, {})
    assert read_index(folder).components["quality"] is None
    with pytest.raises(InputError, match="needs a network for the role 'propagation'"):
        write_index(folder, {"interaction": "interaction"}, {})
    edit(folder, propagation=None)
    with pytest.raises(ModelFormatError, match="names no folder for 'propagation'"):
        read_index(folder)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../other",
        "/etc",
        "interaction/../../x",
        "a\\b",
        "..\\x",
        "C:\\x",
        "C:",
        "",
        ".",
        ".hidden",
        "~",
        "a\0b",
        "a\n",
        3,
        ["x"],
    ],
)
def test_path_tricks_are_refused(folder: Path, name: object) -> None:
    edit(folder, interaction=name)
    with pytest.raises(ModelFormatError, match="plain name"):
        read_index(folder)


def test_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
    edit(folder, interaction="linked")
    with pytest.raises(ModelFormatError, match="link to"):
        read_index(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2, "limnet_version": "3.1"}, r"limnet 3\.1.*pip install --upgrade"),
        ({"format_version": "one"}, "format_version"),
        ({"_class_name": "StableDiffusion"}, "'StableDiffusion'"),
        ({"fusion": "fusion"}, "unknown entries fusion"),
        ({"settings": [1]}, "settings"),
    ],
)
def test_strange_content(folder: Path, change: dict, message: str) -> None:
    edit(folder, **change)
    with pytest.raises(ModelFormatError, match=message):
        read_index(folder)


def test_missing_index_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        read_index(tmp_path / "nowhere")
    (folder / "interaction" / "config.json").write_text("{}")
    with pytest.raises(MissingFileError, match="give the folder above"):
        read_index(folder / "interaction")
    with pytest.raises(MissingFileError, match="no limnet model, or incomplete"):
        read_index(folder / "quality")


def test_write_refuses(folder: Path) -> None:
    before = (folder / "model_index.json").read_bytes()
    for components, settings, message in (
        ({**NAMES, "fusion": "x"}, {}, "unknown role fusion"),
        ({**NAMES, "quality": "../x"}, {}, "plain folder name"),
        (NAMES, {"tau": float("nan")}, "plain JSON"),
        (NAMES, {"path": Path("x")}, "plain JSON"),
    ):
        with pytest.raises(InputError, match=message):
            write_index(folder, components, settings)
    assert (folder / "model_index.json").read_bytes() == before
