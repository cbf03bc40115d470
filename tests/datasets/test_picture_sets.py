"""What holds for every picture and film set."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from limnet.cli import app
from limnet.data.module import CaseDataModule
from limnet.datasets import berkeley, davis345, davis585, endovis18, grabcut
from limnet.datasets.coco_lvis import CocoLvisDataset
from limnet.datasets.ishape import IShapeDataset
from limnet.datasets.mixes import MIXES, load_mix
from limnet.datasets.registry import data_module_class, dataset_class
from limnet.errors import InputError, MissingFileError
from tests.helpers import fake_amos22, fake_benchmarks_2d, fake_coco_lvis, fake_davis585, fake_endovis18
from tests.helpers.dataset_problems import problems, read_all
from tests.helpers.fake_folders import write_folder
from tests.helpers.fake_pictures import disc, photo, write_picture
from tests.helpers.picture_sets import FILM_SETS, PICTURE_SETS, TEST_PICTURE_SETS, TRAINING_PICTURE_SETS


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("sets")
    return {name: build(top / name) for name, build in PICTURE_SETS.items()}


@pytest.fixture(autouse=True)
def published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(davis585, "OBJECTS", fake_davis585.OBJECTS)
    monkeypatch.setattr(endovis18, "FRAMES", fake_endovis18.FRAMES)
    for benchmark in (berkeley, davis345, grabcut):
        monkeypatch.setattr(benchmark, "OBJECTS", fake_benchmarks_2d.OBJECTS)


@pytest.mark.parametrize("name", PICTURE_SETS)
def test_it_tells_what_it_is(name: str):
    kind = dataset_class(name)
    for text in (kind.title, kind.licence, kind.access, kind.layout):
        assert text.strip() == text != ""
    assert "http" in kind.access or name == "slices"
    assert kind.splits[:2] == ("train", "val")
    assert data_module_class(name).dataset_class is kind


@pytest.mark.parametrize("name", PICTURE_SETS)
def test_the_fake_is_clean_and_every_case_reads(name: str, roots: dict[str, Path]):
    dataset = dataset_class(name)(roots[name])
    assert problems(dataset) == ""
    read_all(dataset)
    assert len({case.name for split in dataset.splits for case in dataset.cases(split)}) == len(dataset.all_cases())


@pytest.mark.parametrize("name", PICTURE_SETS)
def test_nobody_stands_in_two_splits(name: str, roots: dict[str, Path]):
    seen: dict[str, str] = {}
    dataset = dataset_class(name)(roots[name])
    for split in dataset.splits:
        for case in dataset.cases(split):
            assert seen.setdefault(case.patient, split) == split


@pytest.mark.parametrize("name", PICTURE_SETS)
def test_an_empty_folder_is_refused_with_the_layout(name: str, tmp_path: Path):
    (tmp_path / "else").mkdir()
    with pytest.raises(MissingFileError) as caught:
        dataset_class(name)(tmp_path)
    kind = dataset_class(name)
    assert kind.layout in str(caught.value)
    assert kind.access in str(caught.value)


@pytest.mark.parametrize("name", TRAINING_PICTURE_SETS)
def test_slices_to_train_on(name: str, roots: dict[str, Path], tmp_path: Path):
    data = data_module_class(name)(
        roots[name], "interaction", batch_size=3, samples_per_epoch=3, size=32, val_samples=2, cache_dir=tmp_path
    )
    image, mask = next(iter(data.train_dataloader()))
    assert image.shape == mask.shape == (3, 1, 32, 32)
    assert image.dtype == mask.dtype == torch.uint8
    assert set(torch.unique(mask).tolist()) == {0, 1}
    assert next(iter(data.val_dataloader()))[0].shape == (2, 1, 32, 32)
    assert not list(tmp_path.iterdir())  # no copies of pictures


@pytest.mark.parametrize("name", FILM_SETS)
def test_clips_to_train_on(name: str, roots: dict[str, Path], tmp_path: Path):
    data = data_module_class(name)(
        roots[name], "propagation", batch_size=2, samples_per_epoch=2, size=32, length=8, cache_dir=tmp_path
    )
    image, mask = next(iter(data.train_dataloader()))
    assert image.shape == mask.shape == (2, 8, 32, 32)
    assert image.dtype == mask.dtype == torch.uint8
    assert mask[:, 0].any()
    assert (image[:, 0] != image[:, 7]).any()
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TEST_PICTURE_SETS)
def test_benchmarks_are_not_trained_on(name: str, roots: dict[str, Path]):
    data = data_module_class(name)(roots[name], cached=False)
    assert len(data.test_dataloader()) == len(dataset_class(name)(roots[name]).all_cases()) > 0
    with pytest.raises(InputError, match="has 0 case"):
        data.train_dataloader()


def test_the_first_stage_of_the_paper_is_drawn_from(roots: dict[str, Path], tmp_path: Path):
    folders = {
        **{name: roots[name] for name in ("ishape", "davis585", "coco-lvis", "slices")},
        "amos22-ct": fake_amos22.build(tmp_path / "amos"),
        "folder": write_folder(tmp_path / "folder", 3),
    }
    mix = load_mix("paper-stage1", list(folders.items()))
    assert [type(dataset) for dataset, _ in mix] == [dataset_class(name) for name in MIXES["paper-stage1"].names]
    data = CaseDataModule(mix, batch_size=4, samples_per_epoch=40, size=32, cache_dir=tmp_path / "cache")
    batches = list(data.train_dataloader())
    assert len(batches) == 10
    assert all(image.shape == (4, 1, 32, 32) and mask.any() for image, mask in batches)


def test_data_check_on_the_command_line(roots: dict[str, Path]):
    done = CliRunner().invoke(app, ["data", "check", "ishape", str(roots["ishape"])])
    assert done.exit_code == 0, done.output
    assert "24 labelled cases (train 12, val 12)" in done.output
    listed = CliRunner().invoke(app, ["data", "list"], terminal_width=400)
    for name in PICTURE_SETS:
        assert name in listed.output


def test_colours_become_one_channel_as_asked(roots: dict[str, Path], tmp_path: Path):
    drawn = {}
    for gray in ("luminance", "green", "blue"):
        data = CaseDataModule(
            dataset_class("endovis18")(roots["endovis18"], shrink=2),
            batch_size=2,
            samples_per_epoch=2,
            size=32,
            cache_dir=tmp_path,
            gray=gray,
        )
        drawn[gray] = next(iter(data.train_dataloader()))
    assert torch.equal(drawn["green"][1], drawn["blue"][1])
    assert not torch.equal(drawn["green"][0], drawn["blue"][0])
    assert not torch.equal(drawn["green"][0], drawn["luminance"][0])
    with pytest.raises(InputError, match="gray is 'purple'; allowed are luminance"):
        CaseDataModule(dataset_class("grabcut")(roots["grabcut"]), gray="purple")


def linked_ishape(root: Path, number: int) -> Path:
    """Many cases that share two files on disk."""
    inside = np.zeros((120, 120), np.uint16)
    inside[disc(60, 60, 30, (120, 120))] = 1000
    image, mask = (
        write_picture(root / name, pixels) for name, pixels in (("a.png", photo(inside > 0)), ("b.png", inside))
    )
    for folder, path in (("image", image), ("instance_map", mask)):
        place = root / "log" / "train" / folder
        place.mkdir(parents=True)
        for i in range(number):
            os.link(path, place / f"{i:05d}.png")
    return root


def linked_coco(root: Path, number: int) -> Path:
    first = fake_coco_lvis.build(root / "one") / "train"
    listed = {}
    for folder, suffix in (("images", "jpg"), ("masks", "pickle")):
        (root / "train" / folder).mkdir(parents=True)
        for i in range(number):
            os.link(first / folder / f"000000000009.{suffix}", root / "train" / folder / f"{i:012d}.{suffix}")
            listed[f"{i:012d}"] = {"num_instance_masks": 3, "hierarchy": {0: None, 1: None, 2: None}}
    fake_coco_lvis.dump(root / "train" / "hannotation.pickle", listed)
    return root


@pytest.mark.parametrize(("kind", "link"), [(IShapeDataset, linked_ishape), (CocoLvisDataset, linked_coco)])
def test_memory_stays_flat_over_thousands_of_cases(kind, link, tmp_path: Path):
    number = 1000
    root = link(tmp_path, number)
    tracemalloc.start()
    try:
        cases = kind(root).all_cases()
        assert len(cases) == number
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 4000 * number  # descriptions alone
        size = 0
        for case in cases[:10]:
            size = case.read_image().array.nbytes + case.read_labels().nbytes
        assert size > 10_000
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        for case in cases[10:60]:
            case.read_image(), case.read_labels()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - first < size  # not even one is held
    finally:
        tracemalloc.stop()
