from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limnet.data.clips import draw_clip
from limnet.data.module import CaseDataModule
from limnet.datasets.open import OpenDataset, load_sources, read_manifest, read_weights
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers.fake_volumes import build_open
from tests.helpers.golden import shared_path


def test_sources_of_a_split(tmp_path: Path) -> None:
    weights = {"ts_ct_abdomen": 14.0, "openms": 8.0, "dcmqi": 1.0, "synthseg": 2.0}
    sources = {s.name: s for s in load_sources(build_open(tmp_path), groups=weights)}
    assert sorted(sources) == [
        "train/dcmqi_1.npz",
        "train/deep/openms_1.npz",
        "train/synthseg_1.npz",
        "train/ts_ct_abdomen_1.npz",
        "train/ts_ct_abdomen_2.npz",
    ]
    first = sources["train/ts_ct_abdomen_1.npz"]
    assert first.spacing == (1.5, 1.5, 1.5)
    assert first.modality == "ct"
    assert first.ids == (1, 4)
    assert first.image is not None
    assert first.weight == 7.0  # a group's weight is shared by its files
    assert first.axes == (0, 0, 1, 2)
    assert sources["train/ts_ct_abdomen_2.npz"].axes == (0,)  # thick slices
    assert sources["train/dcmqi_1.npz"].axes == (0,)
    assert sources["train/dcmqi_1.npz"].ids == (1,)  # 24 pixels are too few
    assert sources["train/deep/openms_1.npz"].modality == "other"
    labelmap = sources["train/synthseg_1.npz"]
    assert labelmap.image is None
    assert labelmap.modality == "other"
    assert all(draw_clip(np.random.default_rng(1), s, 1, 32) is not None for s in (first, labelmap))


def test_splits_and_groups(tmp_path: Path) -> None:
    build_open(tmp_path)
    assert [s.name for s in load_sources(tmp_path, "val")] == ["val/ts_ct_abdomen_9.npz"]
    assert {s.weight for s in load_sources(tmp_path)} == {1 / 6}  # without weights every file counts alike
    chosen = load_sources(tmp_path, groups={"unknown": 3.0})
    assert [(s.name, s.weight) for s in chosen] == [("train/unknown_thing.npz", 3.0)]
    assert load_sources(tmp_path, groups={}) == []


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"manifest\.json"):
        load_sources(tmp_path)
    build_open(tmp_path)
    assert len(read_manifest(tmp_path)) == 7


def test_cases_of_the_open_volumes(tmp_path: Path) -> None:
    data = OpenDataset(build_open(tmp_path))
    cases = {case.name: case for case in data.all_cases()}
    assert "synthseg_1" not in cases
    assert [c.name for c in data.cases("val")] == ["ts_ct_abdomen_9"]
    assert len(data.cases("train")) == len(cases) - 1
    case = cases["openms_1"]
    assert case.modality == "mr"
    assert case.read_image().array.shape == case.read_labels().shape == (9, 32, 32)
    assert np.allclose(cases["ts_ct_abdomen_2"].read_image().spacing, (5, 1, 1))
    assert [c.name for c in OpenDataset(tmp_path, groups=("openms",)).all_cases()] == ["openms_1"]


def test_painted_label_maps(tmp_path: Path) -> None:
    (case,) = OpenDataset(build_open(tmp_path), groups=("synthseg",), painted=True).all_cases()
    first, second = case.read_image(), case.read_image()
    assert first.array.std() > 0
    assert np.array_equal(first.array, second.array)
    assert first.shape == case.read_labels().shape


def test_data_module_draws_every_file_alike(tmp_path: Path) -> None:
    data = OpenDataset(build_open(tmp_path), painted=True)
    module = CaseDataModule(data, size=32, batch_size=2, cache_dir=tmp_path / "cache")
    module.prepare_data()
    module.setup("fit")
    assert module.training is not None
    weights = {c.name: w for c, w in zip(module.training.sources.cases, module.training.drawer.odds, strict=True)}
    assert len(weights) == 6
    assert weights["openms_1"] == pytest.approx(weights["ts_ct_abdomen_1"])
    image, _ = next(iter(module.train_dataloader()))
    assert image.shape == (2, 1, 32, 32)


def picture_collection(root: Path) -> Path:
    """A volume with its patient, a colour picture, a stack of two pictures, and a film of three frames in two files."""
    rng = np.random.default_rng(0)
    label = np.zeros((24, 24), np.uint8)
    label[4:16, 6:18] = 1
    (root / "train").mkdir(parents=True)
    np.savez(
        root / "train/v.npz", image=rng.integers(0, 99, (8, 24, 24)), label=np.stack([label] * 8), spacing=[2, 1, 1]
    )
    np.savez(
        root / "train/s.npz", image=rng.integers(0, 99, (2, 24, 24)), label=np.stack([label] * 2), spacing=[1, 1, 1]
    )
    pictures = [{"file": "train/s.npz", "split": "train", "set": "cells", "axis0": "images", "shape": [2, 24, 24]}]
    for number, name in enumerate(("a", "f/1", "f/0")):
        path = root / f"val/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(path)
        Image.fromarray(np.roll(label, number)).save(root / f"val/{name}_label.png")
        film = {"clip": "f", "frame": int(name[-1]), "axis0": "time"} if number else {"axis0": "images"}
        files = {"file": f"val/{name}.png", "label_file": f"val/{name}_label.png"}
        pictures.append({**files, "split": "val", "set": "skin", "shape": [24, 24, 3], **film})
    volumes = [{"file": "train/v.npz", "split": "train", "kind": "volume", "name": "v", "patient": "p1", "set": "mr"}]
    (root / "manifest.json").write_text(json.dumps({"volumes": volumes, "pictures": pictures}))
    return root


def test_pictures_and_films(tmp_path: Path) -> None:
    data = OpenDataset(picture_collection(tmp_path))
    cases = {case.name: case for case in data.all_cases()}
    assert sorted(cases) == ["cells_s_0", "cells_s_1", "skin_a", "skin_f", "v"]
    assert [c.name for c in data.cases("val")] == ["skin_a", "skin_f"]
    assert cases["v"].patient == "p1"
    film = cases["skin_f"]
    assert film.read_image().array.shape == (2, 24, 24, 3)  # colours are kept
    first = np.asarray(Image.open(tmp_path / "val/f/0.png"))
    assert np.array_equal(film.read_image().array[0], first)  # frames in their order, not in that of the manifest
    with np.load(tmp_path / "train/s.npz") as stack:
        assert np.array_equal(cases["cells_s_1"].read_image().array[0], stack["image"][1])
    sources = load_sources([tmp_path], "val", {"val/f": 2.0, "val/a": 1.0})
    assert [(s.labels.shape, s.axes, s.weight) for s in sources] == [((2, 24, 24), (0,), 2.0), ((1, 24, 24), (0,), 1.0)]
    luminance = first @ [0.299, 0.587, 0.114]
    assert sources[0].image is not None
    assert np.abs(sources[0].image[0] - luminance).max() <= 0.51
    assert all(draw_clip(np.random.default_rng(1), s, 1, 32) is not None for s in sources)


@pytest.mark.parametrize("name", ["data", "data2"])
def test_no_person_is_on_both_sides(name: str) -> None:
    data = OpenDataset(shared_path(name))
    sides = [{case.patient for case in data.cases(split)} for split in ("train", "val")]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_weights_of_files(tmp_path: Path) -> None:
    table = tmp_path / "weights.json"
    with pytest.raises(MissingFileError, match=r"weights\.json"):
        read_weights(table)
    for text in ("[]", '{"val": {}}', '{"train": {"a": -1}}', '{"train": {"a": "x"}}', "{"):
        table.write_text(text)
        with pytest.raises(FileFormatError, match=r"should hold"):
            read_weights(table)
    table.write_text('{"train": {"a": 1, "b": 2.5}, "val": {}}')
    assert read_weights(table) == {"a": 1, "b": 2.5}


def test_weights_of_the_released_model() -> None:
    train = read_weights(Path(__file__).parents[2] / "recipes/limnet-tiny-data.json")
    assert max(train.values()) <= 0.1 * sum(train.values())  # no source has more than a tenth of the draws


@pytest.mark.parametrize(
    ("file", "patient"),
    [
        ("train/openms_p07_t2.npz", "openms_p07"),
        ("train/openms_p07_flair.npz", "openms_p07"),
        ("train/lidc/lidc_0454_n7.npz", "lidc_0454"),
        ("train/sct_cord_t1.npz", "cord"),
        ("train/spinegeneric_unf01_t2w.npz", "cord"),
        ("train/ts_ct_thorax.npz", "ts_ct_thorax"),
    ],
)
def test_files_of_one_person(tmp_path: Path, file: str, patient: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    np.savez(path, image=np.zeros((2, 4, 4), np.int16), label=np.zeros((2, 4, 4), np.uint8), spacing=[1, 1, 1])
    (tmp_path / "manifest.json").write_text(json.dumps({"volumes": [{"file": file, "kind": "volume"}]}))
    assert OpenDataset(tmp_path).all_cases()[0].patient == patient


def test_manifest_that_promises_too_much(tmp_path: Path) -> None:
    build_open(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["volumes"][0]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert [(p.case, p.what) for p in OpenDataset(tmp_path).check()] == [
        ("ts_ct_abdomen_1", "is not the file the manifest describes")
    ]
    (tmp_path / "train/dcmqi_1.npz").unlink()
    with pytest.raises(MissingFileError, match="dcmqi_1"):
        OpenDataset(tmp_path)


@pytest.mark.parametrize("content", ['{"name": "x"}', '{"volumes": [', "[]", '{"volumes": [{"name": "x"}]}'])
def test_a_manifest_of_something_else(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(FileFormatError, match="volumes"):
        OpenDataset(tmp_path)
