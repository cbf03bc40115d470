from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limnet.datasets.clips import draw_clip
from limnet.datasets.open import GROUP_WEIGHTS, OpenDataModule, OpenDataset, load_sources, read_manifest
from limnet.errors import FileFormatError, MissingFileError
from tests.helpers import fake_open


def test_sources_of_a_split(tmp_path: Path) -> None:
    sources = {s.name: s for s in load_sources(fake_open.build(tmp_path))}
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
    assert first.weight == GROUP_WEIGHTS["ts_ct_abdomen"] / 2  # a group's weight is shared by its files
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
    fake_open.build(tmp_path)
    assert [s.name for s in load_sources(tmp_path, "val")] == ["val/ts_ct_abdomen_9.npz"]
    chosen = load_sources(tmp_path, groups={"unknown": 3.0})
    assert [(s.name, s.weight) for s in chosen] == [("train/unknown_thing.npz", 3.0)]
    assert load_sources(tmp_path, groups={}) == []


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"manifest\.json"):
        load_sources(tmp_path)
    fake_open.build(tmp_path)
    assert len(read_manifest(tmp_path)) == 7


def test_cases_of_the_open_volumes(tmp_path: Path) -> None:
    data = OpenDataset(fake_open.build(tmp_path))
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
    (case,) = OpenDataset(fake_open.build(tmp_path), groups=("synthseg",), painted=True).all_cases()
    first, second = case.read_image(), case.read_image()
    assert first.array.std() > 0
    assert np.array_equal(first.array, second.array)
    assert first.shape == case.read_labels().shape


def test_groups_keep_their_weights(tmp_path: Path) -> None:
    module = OpenDataModule(fake_open.build(tmp_path), size=32, batch_size=2, cache_dir=tmp_path / "cache")
    module.prepare_data()
    module.setup("fit")
    assert module.training is not None
    weights = {c.name: w for c, w in zip(module.training.cases, module.training.weights, strict=True)}
    assert sorted(weights) == ["dcmqi_1", "openms_1", "synthseg_1", "ts_ct_abdomen_1", "ts_ct_abdomen_2"]
    assert weights["openms_1"] / weights["ts_ct_abdomen_1"] == pytest.approx(
        GROUP_WEIGHTS["openms"] / (GROUP_WEIGHTS["ts_ct_abdomen"] / 2)
    )
    image, _ = next(iter(module.train_dataloader()))
    assert image.shape == (2, 1, 32, 32)


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
    fake_open.build(tmp_path)
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
